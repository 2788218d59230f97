-- Sets of service relations under other names: made, worked on, listed, dropped.
\set super :USER
\i setup/session.sql
create role sets_owner login;
create role sets_other login;
create schema sets authorization sets_owner;
create schema "My Schema" authorization sets_owner;
create table sets.people (id text, email text, vip boolean);
insert into sets.people select i, 'p' || i || '@example.com', i % 2 = 0 from generate_series(1, 6) i;
grant usage on schema sets to sets_other;
grant select on sets.people to sets_owner, sets_other;

-- Names as PostgreSQL takes them apart.
\c - sets_owner
select segmenter_init('sets.seg');
select segmenter_init('"My Schema"."we;ird"".Name''s"', 'sets."Log of ''it"');
set search_path = sets, public;
select segmenter_init('PLAIN');
select segmenter_init('sets.log_elsewhere', 'journal');
reset search_path;
select relname, relkind from pg_class
where relnamespace = '"My Schema"'::regnamespace and relkind in ('r', 'v', 'i') order by relname;
select cfg_table, log_table, owner, segments, is_current from segmenter_sets();

-- What cannot be: nothing is made.
select segmenter_init();
select segmenter_init('sets.seg');
create table sets.half_outbox ();
create type sets.half2_status as enum ();
select segmenter_init('sets.half');
select segmenter_init('sets.half2');
select segmenter_init('sets.half3', 'sets.half3_outbox');
select segmenter_init('sets.half4', 'sets.people');
select segmenter_init('sets.' || repeat('x', 50));
select segmenter_init('sets.seg5', 'sets.' || repeat('x', 64));
select segmenter_init('pg_temp.seg');
select segmenter_init('sets.seg6', 'pg_temp.log');
select segmenter_init('pg_catalog.seg');
select segmenter_init('nowhere.seg');
select segmenter_init('sets_x.seg', 'a.b.c');
select segmenter_init('');
select segmenter_init('sets.');
select segmenter_init('a b');
select segmenter_init(null);
set search_path = nowhere;
select public.segmenter_init('seg');
reset search_path;
\c - sets_other
select segmenter_init('sets.mine');
\c - sets_owner
select relname from pg_class where relnamespace = 'sets'::regnamespace and relname ~ '^(half|seg[56]|x|mine)' order by 1;

-- Names that are as long as they may be, and the same for as long as an index's may be.
select segmenter_init('sets.' || repeat('x', 48) || 'a');
select segmenter_init('sets.' || repeat('x', 48) || 'b');
select count(*) as indexes, max(length(indexname::text)) as longest, count(distinct indexname) as names
from pg_indexes where schemaname = 'sets' and tablename like 'xxx%' and indexname not like '%pkey';

-- Which set a session works on: one that was made so.
set segmenter.cfg_table = 'sets.nothing';
set segmenter.cfg_table = 'sets.people';
set segmenter.cfg_table = 'sets.seg_segments';
set segmenter.cfg_table = 'a b';
set segmenter.cfg_table = 'pg_class';
show segmenter.cfg_table;
alter role sets_owner set segmenter.cfg_table = 'sets.nothing';
\c - sets_owner
select status from segmenter_refresh('vip');
alter role sets_owner reset segmenter.cfg_table;
\c - sets_owner
set segmenter.cfg_table = 'sets.seg';
begin;
set local segmenter.cfg_table = '"My Schema"."we;ird"".Name''s"';
select cfg_table from segmenter_sets() where is_current;
rollback;
select cfg_table from segmenter_sets() where is_current;
-- It does not begin the transaction's snapshot.
begin;
set local segmenter.cfg_table = 'sets.plain';
set transaction isolation level serializable;
rollback;

-- The whole cycle, in a set whose name is no trouble to anybody.
set segmenter.cfg_table = '"My Schema"."we;ird"".Name''s"';
select segmenter_create_segment('vip', 'select id, email as hash_email from sets.people where vip', '@daily', 'sets.vip') is not null as created;
select segmenter_subscribe('crm', 'vip', 'ads') is not null as subscribed;
select segment, status, added, removed, changed, coverage, messages from segmenter_refresh('vip');
select segment, due, reason from segmenter_due();
select name, last_status, coverage, update_consumer, update_status, pending_messages
from "My Schema"."we;ird"".Name's_status";
select id, hash_email from "My Schema"."we;ird"".Name's" order by id;
select action, status, added from sets."Log of 'it" order by id;
select operation, members from segmenter_claim('crm', 9);
select segmenter_ack(lease, leased_through, '{"external_id": "x1"}') from "My Schema"."we;ird"".Name's_deliveries";
select update_status, pending_messages, last_receipt from "My Schema"."we;ird"".Name's_status";
update "My Schema"."we;ird"".Name's_segments" set refresh_cron = '61 * * * *';
select status, detail from segmenter_refresh('nobody');
select segment, rows from segmenter_erase('2');
select segment, status, coverage from segmenter_run();
call segmenter_run_each();
select "check", status, detail from segmenter_doctor() where "check" in ('tables', 'refreshes', 'owners');
select segmenter_prune();
-- the others have seen nothing of it
select count(*) from segmenter_segments where name = 'vip';
select count(*) from sets.seg_log;
select count(*) from segmenter_log where segment_name in ('vip', 'nobody');
reset segmenter.cfg_table;
select status, detail from segmenter_refresh('vip');
select segment from segmenter_due_in('"My Schema"."we;ird"".Name''s"');
select segment from segmenter_due_in('sets.people');

-- A segment's name, and a consumer's, may be taken in each set; a table belongs to one.
set segmenter.cfg_table = 'sets.seg';
select segmenter_create_segment('vip', 'select id from sets.people', null, 'sets.all_people', false) is not null as created;
select status, coverage from segmenter_refresh('vip');
create table sets.shared (like sets.seg including defaults, unique (segment_id, id));
insert into sets.seg_segments (name, table_name) values ('shared', 'sets.shared');
insert into sets.plain_segments (name, table_name) values ('shared', 'sets.shared');
insert into sets.plain_segments (name, table_name) values ('vip', 'sets.all_people');
insert into sets.plain_segments (name, table_name) values ('service', 'sets.seg_log');
insert into sets.plain_segments (name, table_name) values ('service', 'sets.seg');
insert into sets.plain_segments (name, table_name) values ('service', 'segmenter_registry');
\set VERBOSITY terse
insert into sets.seg (segment_id) values (gen_random_uuid());
\set VERBOSITY default
select cfg_table, segments from segmenter_sets() where cfg_table like '%e%';

-- What is renamed is found where it is.
alter table sets.seg rename to audience;
alter table sets.seg_outbox set schema "My Schema";
select status from segmenter_refresh('vip');
set segmenter.cfg_table = 'sets.audience';
select status, coverage from segmenter_refresh('vip');
select name, coverage from sets.seg_status order by name;

-- Who may drop one, and when.
\c - sets_other
select segmenter_drop_set('sets.audience');
\c - sets_owner
set segmenter.cfg_table = 'sets.audience';
select segmenter_drop_set('public.segmenter', true);
select segmenter_drop_set('sets.nothing');
select segmenter_drop_set(null);
select segmenter_drop_set('sets.audience');
select segmenter_drop_set('"My Schema"."we;ird"".Name''s"');
create view sets.mine as select count(*) from sets.audience;
select segmenter_drop_set('sets.audience', true);
drop view sets.mine;
select segmenter_drop_set('sets.audience', true);
select status from segmenter_refresh('vip');
reset segmenter.cfg_table;
-- the segment's table is an ordinary one again
select count(*) from sets.all_people;
select count(*) from pg_constraint where conrelid = 'sets.all_people'::regclass and contype = 'c';
insert into sets.plain_segments (name, table_name) values ('vip', 'sets.all_people');
delete from sets.plain_segments;
select segmenter_drop_set('sets.plain');
select relname from pg_class where relnamespace in ('sets'::regnamespace, '"My Schema"'::regnamespace)
    and relname ~ '^(audience|seg|plain)' order by 1;

-- Messages that wait hold it back, segments that are retired do not.
set segmenter.cfg_table = 'sets.log_elsewhere';
select segmenter_create_segment('vip', 'select id from sets.people', null, 'sets.later') is not null as created;
select segmenter_subscribe('crm', 'vip', 'ads') is not null as subscribed;
select status, messages from segmenter_refresh('vip');
update sets.log_elsewhere_segments set actual_end = now();
select segmenter_drop_set('sets.log_elsewhere');

-- A set that is not whole says what is missing.
drop view sets.log_elsewhere_status;
drop table sets.journal;
select status from segmenter_refresh('vip');
insert into sets.log_elsewhere_segments (name, table_name) values ('more', 'sets.later');
select cfg_table, log_table, owner, segments from segmenter_sets() where cfg_table = 'sets.log_elsewhere';
select segmenter_drop_set('sets.log_elsewhere', true);
drop table sets.log_elsewhere cascade;
select cfg_table from segmenter_sets() where cfg_table = 'sets.log_elsewhere';
select status from segmenter_refresh('vip');
reset segmenter.cfg_table;

\c - :super
select segmenter_drop_set(cfg_table, true) from segmenter_sets() where owner = 'sets_owner';
-- A column that the owner of a set has taken away.
select segmenter_init('sets.less') is not null as made;
alter table sets.less_segments drop column guards cascade;
\set VERBOSITY default
insert into sets.less_segments (name, table_name) values ('one', 'sets.less');
select segmenter_drop_set('sets.less', true) is not null as dropped;
select count(*) as left_over from segmenter_registry where mart <> 'segmenter'::regclass;
set client_min_messages = warning;
drop schema sets, "My Schema" cascade;
drop role sets_owner, sets_other;
