-- Row-level security of a segment table that hides rows from the segment's or the table's owner.
\set VERBOSITY default
\i setup/columns.sql
create role rls_tab;
create role rls_mkt;
create schema rls;
grant usage, create on schema rls to rls_tab;
grant usage on schema rls to rls_mkt;
create table rls.c (id int, email text);
insert into rls.c select g, 'e' || g from generate_series(1, 4) g;
grant select on rls.c to rls_mkt;
set role rls_tab;
create table rls.seg (:columns, unique (segment_id, id));
create table rls.hist (:columns);
create unique index on rls.hist (segment_id, id) where actual_end = 'infinity';
grant select, insert, update on rls.seg, rls.hist to rls_mkt;
reset role;
insert into segmenter_segments (name, table_name, owner) values ('rls first', 'rls.seg', 'rls_tab'), ('rls hist first', 'rls.hist', 'rls_tab');
insert into segmenter_segments (name, table_name, owner, refresh_params) values
    ('rls m', 'rls.seg', 'rls_mkt', '{"query": {"sql": "select id, email as hash_email from rls.c"}}'),
    ('rls h', 'rls.hist', 'rls_mkt', '{"query": {"sql": "select id, email as hash_email from rls.c"}}');
select segment, added from unnest('{rls m,rls h}'::text[]) n, lateral segmenter_refresh(n);
select segmenter_subscribe('rls consumer', 'rls m', 't') is not null as subscribed;

-- A refresh, with both layouts.
alter table rls.seg enable row level security;
alter table rls.hist enable row level security;
delete from rls.c where id = 4;
select segment, status, added, removed, detail from unnest('{rls m,rls h}'::text[]) n, lateral segmenter_refresh(n);
select error from segmenter_log where segment_name = 'rls m' order by id desc limit 1;
select "check", status, detail, hint from segmenter_doctor() where "check" = 'tables';
-- When the row is written, and when it is given another owner. Other columns can be changed.
\set VERBOSITY default
insert into segmenter_segments (name, table_name, owner) values ('rls new', 'rls.seg', 'rls_mkt');
update segmenter_segments set owner = 'rls_mkt' where name = 'rls first';
update segmenter_segments set table_name = table_name where name = 'rls m';
update segmenter_segments set description = 'x' where name = 'rls m';
-- The table's own owner sees all, as do roles with BYPASSRLS; unless it is forced.
update segmenter_segments set owner = 'rls_tab' where name = 'rls first';
alter role rls_mkt bypassrls;
select status, added, removed from segmenter_refresh('rls m');
alter role rls_mkt nobypassrls;
alter table rls.seg no force row level security;
alter table rls.hist force row level security, disable row level security;
select status, removed from segmenter_refresh('rls h');
alter table rls.hist enable row level security;
update segmenter_segments set refresh_params = '{"query": {"sql": "select 1 as id"}}' where name = 'rls hist first';
select status, detail from segmenter_refresh('rls hist first');
select "check", status, detail, hint from segmenter_doctor() where "check" = 'tables' and detail ~ 'hist';
-- Nobody is erased from rows that its owner does not see, nor is a resync empty.
set client_min_messages = error;
select segment, rows, status, detail from segmenter_erase('1') order by 1;
select rows, status, detail from segmenter_erase('2') where segment = 'rls h';
alter table rls.hist no force row level security;
alter table rls.seg force row level security;
select segmenter_resync(id) from segmenter_subscriptions where target = 't';
reset client_min_messages;
alter table rls.seg no force row level security;

-- Policies that let all rows through hide nothing; those that filter do, and one command is enough.
create policy everything on rls.seg to rls_mkt using (true);
select status, added, removed from segmenter_refresh('rls m');
create policy filter on rls.seg as restrictive to public using (id <> '3');
select status from segmenter_refresh('rls m');
drop policy filter on rls.seg;
drop policy everything on rls.seg;
create policy reading on rls.seg for select using (true);
create policy adding on rls.seg for insert with check (true);
select status from segmenter_refresh('rls m');
create policy writing on rls.seg for update using (true) with check (id <> '3');
select status from segmenter_refresh('rls m');
alter policy writing on rls.seg with check (true);
select status from segmenter_refresh('rls m');

-- An event trigger that enables row-level security on each new table: Segmenter's own tables, and a
-- segment of the role that made its table, go on working.
create function rls.enable() returns event_trigger language plpgsql as $$
declare t record;
begin
    for t in select * from pg_event_trigger_ddl_commands() where command_tag in ('CREATE TABLE', 'CREATE TABLE AS') and object_type = 'table' loop
        execute format('alter table %s enable row level security', t.object_identity);
    end loop;
end $$;
create event trigger rls_enable on ddl_command_end execute function rls.enable();
set role rls_tab;
select segmenter_init('rls.set') is not null as made;
select segmenter_create_segment('rls own', 'select 1 as id', table_name => 'rls.own') is not null as created;
select status, added from segmenter_refresh('rls own');
select status, added from segmenter_refresh('rls own');
set segmenter.cfg_table = 'rls.set';
select segmenter_create_segment('rls in a set', 'select 1 as id', table_name => 'rls.in_set') is not null as created;
select status, added from segmenter_refresh('rls in a set');
select count(*) from rls.set;
select name, last_status from rls.set_status;
reset segmenter.cfg_table;
reset role;
drop event trigger rls_enable;
grant select, insert, update on rls.own to rls_mkt;
update segmenter_segments set owner = 'rls_mkt' where name = 'rls own';

set client_min_messages = error;
delete from segmenter_subscriptions;
delete from segmenter_consumers where name ~ '^rls';
delete from segmenter_segments where name ~ '^rls';
delete from segmenter_log;
delete from segmenter_outbox;
set role rls_tab;
select segmenter_drop_set('rls.set', true);
reset role;
drop schema rls cascade;
drop owned by rls_tab, rls_mkt;
drop role rls_tab, rls_mkt;
