-- A search_path full of traps: tables, functions, operators, casts and types named like ours or
-- like PostgreSQL's, ahead of them. Everything gives the same as without.
\i setup/schema.sql
create schema traps;
create schema traps_own;
create table traps_own.people (id int primary key, email text);
insert into traps_own.people values (1, 'a'), (2, 'b'), (3, 'c');
select segmenter_create_segment('history', 'select id, email as hash_email from traps_own.people', table_name => 'traps_own.history') is not null as created;
select segmenter_create_segment('latest', 'select id, email as hash_email from traps_own.people', table_name => 'traps_own.latest', history => false) is not null as created;
create procedure traps_own.rewrite() language plpgsql as $$
begin
    update traps_own.latest set hash_email = upper(hash_email) where id in (select id::text from traps_own.people);
end $$;

-- Whoever calls one of these has fallen into a trap.
create function traps.trap() returns int language plpgsql as 'begin raise ''fallen into a trap''; end';
do $$
declare
    signature text;
    operand text;
begin
    foreach signature in array array[
        'now() returns timestamptz', 'clock_timestamp() returns timestamptz', 'timezone(text, timestamptz) returns timestamp',
        'gen_random_uuid() returns uuid', 'pg_has_role(oid, text) returns boolean', 'pg_has_role(oid, oid, text) returns boolean',
        'current_schema() returns name', 'quote_ident(text) returns text', 'uuid_hash_extended(uuid, bigint) returns bigint',
        'max(bigint) returns bigint', 'coalesce(text, text) returns text', 'upper(text) returns text', 'upper(varchar) returns text',
        'unnest(int2[]) returns setof int2', 'format_type(oid, int) returns text', 'pg_get_expr(pg_node_tree, oid) returns text',
        'segmenter_cron_next(text, timestamptz, text) returns timestamptz', 'segmenter_run_plan() returns setof int'
    ] loop
        execute format('create function traps.%s language plpgsql as %L', signature, 'begin perform traps.trap(); end');
    end loop;
    foreach operand in array array['text', 'varchar', 'name', 'uuid', 'oid', 'regclass', 'boolean', 'bigint', '"char"', 'timestamp', 'timestamptz', 'record'] loop
        execute format('create function traps.never(%1$s, %1$s) returns boolean language plpgsql as %2$L', operand, 'begin return traps.trap(); end');
        execute format('create operator traps.= (leftarg = %1$s, rightarg = %1$s, function = traps.never)', operand);
        execute format('create operator traps.<> (leftarg = %1$s, rightarg = %1$s, function = traps.never)', operand);
        execute format('create operator traps.*<> (leftarg = %1$s, rightarg = %1$s, function = traps.never)', operand);
    end loop;
end $$;
create domain traps.text as int;
create domain traps.varchar as int;
create domain traps.uuid as int;
create domain traps.timestamp as int;
create domain traps.regclass as int;
create domain traps.jsonb as int;
create table traps.segmenter (i int);
create table traps.segmenter_segments (like segmenter_segments);
create table traps.segmenter_log (i int);
create table traps.segmenter_delta (i int);
create table traps.segmenter_before (i int);
create table traps.pg_class (i int);
create table traps.pg_extension (i int);
create table traps.people (id int);
-- Temporary relations come before all others, too.
create temp table segmenter_segments (i int);
create temp table segmenter_log (i int);
create temp table segmenter_delta (i int);
create temp table pg_class (i int);

set search_path = traps, pg_catalog, :schema, public;
select 'a'::pg_catalog.text = 'a'::pg_catalog.text as is_armed;
select segment, status, added, coverage, detail from :schema.segmenter_refresh('history');
select segment, status, added, coverage, detail from :schema.segmenter_refresh('latest');
update traps_own.people set email = 'z' where id operator(pg_catalog.=) 1;
delete from traps_own.people where id operator(pg_catalog.=) 2;
select segment, status, added, removed, changed, coverage, detail from :schema.segmenter_refresh('history');
select segment, status, added, removed, changed, coverage, detail from :schema.segmenter_refresh('latest');
select segment, status, added, removed, changed, coverage, detail from :schema.segmenter_refresh('latest', dry_run => true);
update :schema.segmenter_segments set refresh_auto = true;
select segment, status, added, removed, changed, coverage, detail from :schema.segmenter_run();
call :schema.segmenter_run_each();
update :schema.segmenter_segments set refresh_params = '{"procedure": {"sql": "call traps_own.rewrite()"}}' where name operator(pg_catalog.=) 'latest';
select segment, status, added, removed, changed, coverage, detail from :schema.segmenter_refresh('latest');
-- A name that is not qualified is looked for in no table of the caller's.
select segment, status, detail from :schema.segmenter_refresh('history', 'select id from people');
select segment, status, detail from :schema.segmenter_refresh('nobody');
-- Configuration, its checks and its defaults.
select :schema.segmenter_create_segment('made', 'select 1 as id', '@daily', 'traps_own.made') is not null as created;
insert into :schema.segmenter_segments (name, table_name, refresh_cron) values ('s', 'traps_own.people', '0 25 * * *');
insert into :schema.segmenter_segments (name, table_name) values ('s', 'traps_own.people');
insert into :schema.segmenter_segments (name, table_name) values ('history', 'traps_own.made');
insert into :schema.segmenter_consumers (name) values ('c');
insert into :schema.segmenter_subscriptions (consumer_id, segment_id, target)
select c.id, s.id, 't' from :schema.segmenter_consumers c, :schema.segmenter_segments s where s.name operator(pg_catalog.=) 'made';
delete from :schema.segmenter_subscriptions;
delete from :schema.segmenter_consumers;
select name, coverage, update_consumer, next_refresh operator(pg_catalog.>) pg_catalog.now() as is_next from :schema.segmenter_status;
update :schema.segmenter_segments set table_name = 'traps_own.people' where name operator(pg_catalog.=) 'made';
delete from :schema.segmenter_segments where name operator(pg_catalog.=) 'made';
-- As a user with nothing but these schemas.
create role traps_user;
grant usage on schema traps, traps_own to traps_user;
grant select on traps_own.people to traps_user;
alter table traps_own.latest owner to traps_user;
update :schema.segmenter_segments set owner = 'traps_user', refresh_params = '{"query": {"sql": "select id from traps_own.people"}}' where name operator(pg_catalog.=) 'latest';
set role traps_user;
select segment, status, coverage, detail from :schema.segmenter_run();
select name, coverage from :schema.segmenter_status;
select pg_catalog.count(*) from :schema.segmenter where actual_end operator(pg_catalog.=) 'infinity';
reset role;
reset search_path;

select segment_name, status, added, removed, changed, coverage, message from :schema.segmenter_log order by id;
select tableoid::regclass::text as "table", id, hash_email, actual_end = 'infinity' as actual from :schema.segmenter order by 1, 2, actual_begin;

drop table pg_temp.segmenter_segments, pg_temp.segmenter_log, pg_temp.segmenter_delta, pg_temp.pg_class;
delete from segmenter_segments;
delete from segmenter_log;
set client_min_messages = warning;
drop schema traps, traps_own cascade;
drop role traps_user;
