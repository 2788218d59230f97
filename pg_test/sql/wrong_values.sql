-- Values that cannot be, in arguments and config rows: each is refused in words, with what is meant and
-- what to do, where PostgreSQL would speak of constraints, policies and parsers.
\i setup/schema.sql
create role wrong_owner;
create role wrong_other;
create schema wrong_values authorization wrong_owner;
set role wrong_owner;
create table wrong_values.people (id int, email text, at timestamptz default now());
insert into wrong_values.people values (1, 'a'), (2, 'b');
select segmenter_create_segment('wrong', 'select id from wrong_values.people', table_name => 'wrong_values.wrong') is not null;

-- Names of tables.
select segmenter_create_segment('wrong 2', 'select 1 as id', table_name => '');
select segmenter_create_segment('wrong 2', 'select 1 as id', table_name => 'a.b.c');
select segmenter_create_segment('wrong 2', 'select 1 as id', table_name => '"x');
select segmenter_create_segment('wrong 2', 'select 1 as id', table_name => 'pg_temp.x');
select segmenter_create_segment('wrong 2', 'select 1 as id, row(1, 2) as x', table_name => 'wrong_values.x');
select segmenter_create_segment('', 'select 1 as id');
select segmenter_create_segment('wrong', 'select 1 as id', table_name => 'wrong_values.x');
select segmenter_init('');
select segmenter_init('"x');
select segmenter_drop_set('');
select segmenter_adopt_set(' ');
select segmenter_migrate_set('a.b.c.d');
set segmenter.cfg_table = '"x';
set segmenter.cfg_table = 'a.b.c.d';
update segmenter_segments set refresh_params = '{"incremental": {"watch": ["\"x"], "sql": "select id from changed"}}' where name = 'wrong';
update segmenter_segments set sources = '[{"table": "a.b.c", "min_rows": 1}]' where name = 'wrong';

-- Nulls.
update segmenter_segments set name = null where name = 'wrong';
update segmenter_segments set is_suppression = null where name = 'wrong';
insert into segmenter_segments (name) values ('wrong 2');

-- Sources.
update segmenter_segments set sources = '[{"name": " ", "ready": "select true"}]' where name = 'wrong';
update segmenter_segments set sources = '[{"segment": "wrong"}]' where name = 'wrong';
update segmenter_segments set sources = '[{"table": "wrong_values.people", "loaded_at": "At"}]' where name = 'wrong';
update segmenter_segments set sources = '[{"table": "wrong_values.people", "min_rows": 1, "filter": "id > 1)"}]' where name = 'wrong';
update segmenter_segments set sources = '[{"table": "wrong_values.people", "min_rows": 1, "filter": "true; select 1"}]' where name = 'wrong';
update segmenter_segments set sources = '[]' where name = 'wrong';

-- The queries of ids.
update segmenter_segments set refresh_params = '{"incremental": {"changed": "select email from wrong_values.people", "sql": "select id from wrong_values.people join changed using (id)", "full_cron": "@daily"}}' where name = 'wrong';
update segmenter_segments set refresh_params = '{"incremental": {"changed": "select nothing", "sql": "select id from wrong_values.people join changed using (id)", "full_cron": "@daily"}}' where name = 'wrong';
select status, detail from segmenter_refresh('wrong');
update segmenter_segments set refresh_params = '{"query": {"sql": "select id from wrong_values.people"}}' where name = 'wrong';

-- Schedules and time zones: as much as one can read.
create function wrong_values.said(statement text) returns text language plpgsql as $$
begin
    execute statement;
    return null;
exception when others then
    return sqlerrm;
end $$;
select length(said) < 300 as is_short, right(said, 20) from (
    select wrong_values.said(format('select segmenter_cron_next(%L)', repeat('1,', 100000))) as said
    union all
    select wrong_values.said(format('select segmenter_cron_next(''@daily'', now(), %L)', repeat('x', 100000)))
) s;

-- Consumers.
insert into segmenter_consumers (name) values ('wrong');
insert into segmenter_consumers (name, role) values ('wrong', 'wrong_owner');
update segmenter_consumers set role = null where name = 'wrong';
update segmenter_consumers set id = gen_random_uuid() where name = 'wrong';
update segmenter_consumers set params = '{"updater": {}}' where name = 'wrong';
update segmenter_consumers set params = '{"updater": {"http": {"url": "http://x/", "headers": []}}}' where name = 'wrong';

-- Subscriptions.
select segmenter_subscribe('wrong', 'wrong', 'target') is not null;
update segmenter_subscriptions set actual_end = '2001-01-01' where target = 'target';
update segmenter_subscriptions set actual_end = '-infinity' where target = 'target';
update segmenter_subscriptions set name = null where target = 'target';
insert into segmenter_subscriptions (segment_id, consumer_id, target)
select u.segment_id, gen_random_uuid(), 'x' from segmenter_subscriptions u where target = 'target';
insert into segmenter_subscriptions (segment_id, consumer_id, target)
select gen_random_uuid(), u.consumer_id, 'x' from segmenter_subscriptions u where target = 'target';
insert into segmenter_subscriptions (segment_id, consumer_id, target)
select null, u.consumer_id, 'x' from segmenter_subscriptions u where target = 'target';
insert into segmenter_subscriptions (target) values ('x');
select segmenter_resume_deliveries('wrong');
select segmenter_resume_deliveries('Wrong');
set role wrong_other;
select segmenter_resume_deliveries('wrong');
set role wrong_owner;

-- What is not watched.
select segmenter_unwatch('wrong_values.people', 'email');
select segmenter_unwatch('wrong_values.people');

-- A procedure that commits, in a block.
select segmenter_run() is null;
update segmenter_segments set refresh_auto = true where name = 'wrong';
begin;
\set SHOW_CONTEXT never
call segmenter_run_each();
\set SHOW_CONTEXT errors
rollback;

-- A person with an id that is long, and one with many hashes: their erasure looks for them in the log.
select segment, status from segmenter_refresh('wrong', 'select repeat(''x'', 20000) as id');
select segment, rows, status from segmenter_erase(repeat('x', 100000));
select segment, rows, status from segmenter_erase(repeat('x', 20000));
select count(*) from segmenter_log where params::text like '%xxxxxxxx%';
reset role;

set client_min_messages = warning;
set segmenter.force_retire = on;
delete from segmenter_subscriptions where target = 'target';
delete from segmenter_consumers where name = 'wrong';
delete from segmenter_segments where name = 'wrong';
delete from segmenter_log;
drop schema wrong_values cascade;
drop owned by wrong_owner, wrong_other;
drop role wrong_owner, wrong_other;
