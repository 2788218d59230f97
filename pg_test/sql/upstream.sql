-- Segments built on segments: one waits until those that it reads are up to date, they are kept while
-- it reads them, and nothing of it is handed over before its first successful refresh.
\set VERBOSITY terse
set client_min_messages = error;
delete from segmenter_log;
create schema upstream;
create table upstream.people (id int primary key, staff boolean, vip boolean);
insert into upstream.people select g, g % 5 = 0, g % 2 = 0 from generate_series(1, 20) g;
create function upstream.segment(name text, query text, cron text default null) returns void language sql as $$
    select segmenter_create_segment(name, query, cron, 'upstream.' || quote_ident(name), false)
$$;
create function upstream.refresh(variadic names text[]) returns table (segment text, status text, coverage bigint, detail text)
language sql as $$
    select r.segment, r.status, r.coverage,
        regexp_replace(r.detail, '\d\d\d\d-\d\d-\d\d \d\d:\d\d:\d\d', 'TIME', 'g')
    from unnest(names) with ordinality n (name, ord), segmenter_refresh(n.name) r
    order by n.ord
$$;
select upstream.segment('staff', 'select id from upstream.people where staff');
select upstream.segment('vip', 'select id from upstream.people where vip and id::text not in (select s.id from upstream.staff s)');

-- Never refreshed: nobody would be excluded.
select * from upstream.refresh('vip', 'vip', 'staff', 'vip');
select action, status, segment_name, message from segmenter_log order by id;
-- A failure, a guard, a source that is not loaded: the last attempt did not succeed.
update segmenter_segments set refresh_params = '{"query": {"sql": "select 1 / 0 as id"}}' where name = 'staff';
select * from upstream.refresh('staff', 'vip');
select name, last_status, last_error from segmenter_status order by name;
update segmenter_segments set refresh_params = '{"query": {"sql": "select 1 as id"}}', guards = '{"min_members": 2}' where name = 'staff';
select * from upstream.refresh('staff', 'vip');
update segmenter_segments set guards = '{}', sources = '[{"name": "load", "ready": "select false"}]' where name = 'staff';
select * from upstream.refresh('staff', 'vip');
-- A one-off query and a dry run: the former is not the segment's own, the latter is.
select status from segmenter_refresh('vip', 'select id from upstream.people where vip');
select status, detail from segmenter_refresh('vip', dry_run => true);
select status, detail from segmenter_refresh('vip', force => true);
-- Not where the database says so.
set segmenter.upstream = 'ignore';
select * from upstream.refresh('vip');
set segmenter.upstream = 'never';
reset segmenter.upstream;
update segmenter_segments set sources = '[]' where name = 'staff';
select * from upstream.refresh('staff', 'vip');

-- By schedule: it is due, and was not refreshed since.
update segmenter_segments set refresh_cron = '0 0 1 1 *', refresh_auto = true where name = 'staff';
select * from upstream.refresh('vip');
update segmenter_state set started_at = started_at - interval '2 years' where segment_id = (select id from segmenter_segments where name = 'staff');
select * from upstream.refresh('vip');
update segmenter_segments set refresh_auto = false where name = 'staff';
select * from upstream.refresh('vip');
update segmenter_segments set refresh_auto = true where name = 'staff';
-- In a run, what is read comes first; what waits is tried by the next one.
update segmenter_segments set refresh_auto = true where name = 'vip';
select segment, status from segmenter_run();
update segmenter_segments set refresh_params = '{"query": {"sql": "select 1 / 0 as id"}}', refresh_cron = null where name = 'staff';
select segment, status, coverage from segmenter_run();
select segment, status, coverage from segmenter_run();
update segmenter_segments set refresh_params = '{"query": {"sql": "select id from upstream.people where staff"}}' where name = 'staff';
select segment, status, coverage from segmenter_run();
-- A refresh whose time lies in the future is none.
update segmenter_segments set refresh_cron = '0 0 1 1 *' where name = 'staff';
update segmenter_state set started_at = now() + interval '8 hours' where segment_id = (select id from segmenter_segments where name = 'staff');
select * from upstream.refresh('vip');
update segmenter_state set started_at = now() where segment_id = (select id from segmenter_segments where name = 'staff');
update segmenter_segments set refresh_cron = null, refresh_auto = false;

-- Through views of views, functions with a body of either kind, and incremental queries.
create view upstream.inner as select id from upstream.staff;
create view upstream.outer as select * from upstream.inner;
create function upstream.body(lowest text) returns setof text stable language sql as $$ select s.id from upstream.staff s where s.id >= lowest $$;
create function upstream.atomic() returns setof text stable begin atomic select s.id from upstream.inner s; end;
create function upstream.nested() returns setof text stable language sql as $$ select upstream.atomic() $$;
create function upstream.hidden() returns setof text stable language plpgsql as $$ begin return query select s.id::text from upstream.staff s; end $$;
select upstream.segment('through views', 'select id from upstream.outer');
select upstream.segment('body', $$ select f as id from upstream.body('1') f $$);
select upstream.segment('nested', 'select upstream.nested() as id');
select upstream.segment('hidden', 'select upstream.hidden() as id');
select upstream.segment('incremental', 'select id from upstream.people');
update segmenter_segments set refresh_params = '{"incremental": {"changed": "select id from upstream.people where $1 is not null", "sql": "select id from changed join upstream.outer using (id)"}}' where name = 'incremental';
update segmenter_segments set refresh_params = '{"incremental": {"changed": "select id::text from upstream.people where $1 is not null", "sql": "select id from changed join upstream.outer using (id)"}}' where name = 'incremental';
update segmenter_segments set guards = '{"max_members": 0}' where name = 'staff';
select * from upstream.refresh('staff', 'through views', 'body', 'nested', 'hidden', 'incremental');
update segmenter_segments set guards = '{}' where name = 'staff';
select * from upstream.refresh('staff', 'through views', 'body', 'nested', 'hidden', 'incremental');

-- For procedures, or with another limit.
select upstream.segment('copy', 'select 1 as id');
create procedure upstream.copy() language sql as $$
    insert into upstream.copy (segment_id, id)
    select (select id from segmenter_segments where name = 'copy'), s.id from upstream.staff s
    where not exists (select from upstream.copy c where c.id = s.id)
$$;
update segmenter_segments set refresh_params = '{"procedure": {"sql": "call upstream.copy()"}}', sources = '[{"segment": "staff"}]' where name = 'copy';
update segmenter_segments set guards = '{"max_members": 0}' where name = 'staff';
select * from upstream.refresh('staff', 'copy');
set segmenter.upstream = 'ignore';
select * from upstream.refresh('copy');
reset segmenter.upstream;
update segmenter_segments set sources = '[{"segment": "staff", "max_age": "1 day"}]' where name in ('copy', 'vip');
select * from upstream.refresh('copy', 'vip');
update segmenter_state set started_at = started_at - interval '3 days' where segment_id = (select id from segmenter_segments where name = 'staff');
select segment, status, regexp_replace(detail, ' days \d\d:\d\d:\d\d', ' days') as detail from upstream.refresh('copy', 'vip');
update segmenter_segments set guards = '{}' where name = 'staff';
select * from upstream.refresh('staff', 'copy', 'vip');
-- What is wrong in it is named.
set client_min_messages = warning;
update segmenter_segments set sources = '[{"segment": "staff", "max_age": "1 dya"}]' where name = 'copy';
update segmenter_segments set sources = '[{"segment": "staff", "max_age": "0"}]' where name = 'copy';
update segmenter_segments set sources = '[{"segment": "staff", "max_age": "1000000 years"}]' where name = 'copy';
update segmenter_segments set sources = '[{"segment": "staff", "error_after": "1 day"}]' where name = 'copy';
update segmenter_segments set sources = '[{"segment": 1}]' where name = 'copy';
update segmenter_segments set sources = '[{"max_age": "1 day"}]' where name = 'copy';
update segmenter_segments set sources = '[{"segment": "stuff"}]' where name = 'copy';
set client_min_messages = error;
select * from upstream.refresh('copy');
update segmenter_segments set sources = '[{"segment": "staff"}]' where name = 'copy';

-- What is read is kept. One statement may end both.
\set VERBOSITY default
set client_min_messages = warning;
update segmenter_segments set actual_end = now() where name = 'staff';
delete from segmenter_segments where name = 'staff';
select segmenter_drop_segment('staff');
\set VERBOSITY terse
begin;
update segmenter_segments set actual_end = now() where name in ('staff', 'vip', 'copy', 'through views', 'body', 'nested', 'incremental');
delete from segmenter_segments where name in ('staff', 'vip', 'copy', 'through views', 'body', 'nested', 'incremental');
rollback;
begin;
set local segmenter.force_retire = on;
update segmenter_segments set actual_end = now() where name = 'staff';
-- A retired segment is not waited for: its table stays as it is.
select * from upstream.refresh('vip');
-- A source that is named is.
select * from upstream.refresh('copy');
reset segmenter.force_retire;
delete from segmenter_segments where name = 'staff';
rollback;
begin;
set local segmenter.force_retire = on;
select segmenter_drop_segment('staff');
rollback;
-- Of others' segments the number is told.
create role upstream_a;
create role upstream_b;
grant usage, create on schema upstream to upstream_a, upstream_b;
set role upstream_a;
select segmenter_create_segment('a', 'select 1 as id', null, 'upstream.a') is not null as created;
select status from segmenter_refresh('a');
grant select on upstream.a to upstream_b;
set role upstream_b;
select segmenter_create_segment('b', 'select id from upstream.a', null, 'upstream.b') is not null as created;
select segmenter_create_segment('c', 'select 1 as id', null, 'upstream.c') is not null as created;
update segmenter_segments set sources = '[{"segment": "a"}]' where name = 'c';
select * from upstream.refresh('b', 'c');
set role upstream_a;
\set VERBOSITY default
update segmenter_segments set actual_end = now() where name = 'a';
select segmenter_drop_segment('a');
\set VERBOSITY terse
update segmenter_segments set refresh_params = '{"query": {"sql": "select 1 / 0 as id"}}' where name = 'a';
set client_min_messages = error;
select status from segmenter_refresh('a');
-- A role that may read the table learns the name, one that may not does not.
set role upstream_b;
select * from upstream.refresh('b', 'c');
set role upstream_a;
revoke select on upstream.a from upstream_b;
set role upstream_b;
select * from upstream.refresh('b', 'c');
reset role;
set segmenter.force_retire = on;
delete from segmenter_segments where name in ('a', 'b', 'c');
reset segmenter.force_retire;

-- Cycles: each reads the last state of the other; oneself is nothing to wait for.
select upstream.segment('egg', 'select 1 as id');
select upstream.segment('hen', 'select id from upstream.egg');
update segmenter_segments set refresh_params = '{"query": {"sql": "select id from upstream.hen union all select id from upstream.egg union select ''1''"}}' where name = 'egg';
select * from upstream.refresh('egg', 'hen', 'egg');
-- Several segments in one table are waited for; the mart is not.
\i setup/columns.sql
create table upstream.shared (:columns, unique (segment_id, id));
insert into segmenter_segments (name, table_name, refresh_params) values
    ('shared 1', 'upstream.shared', '{"query": {"sql": "select 1 as id"}}'),
    ('shared 2', 'upstream.shared', '{"query": {"sql": "select 2 as id"}}');
select upstream.segment('reader', 'select id from upstream.shared');
select upstream.segment('everything', 'select distinct id from segmenter');
select * from upstream.refresh('everything', 'shared 1', 'reader', 'shared 2', 'reader');
-- A segment that nothing refreshes is filled by hand: it counts as soon as it has members.
create table upstream.list (:columns, unique (id));
insert into segmenter_segments (name, table_name) values ('list', 'upstream.list');
select upstream.segment('listed', 'select id from upstream.list');
select * from upstream.refresh('listed');
insert into upstream.list (segment_id, id) select id, 'x' from segmenter_segments where name = 'list';
select * from upstream.refresh('listed');

-- A subscription is served from the first successful refresh on.
select upstream.segment('served', 'select 1 / 0 as id');
select segmenter_subscribe('upstream', 'served', 't') is not null as subscribed;
select segment, status, messages from segmenter_refresh('served');
select segment, status, messages from segmenter_run() where segment = 'served';
select segmenter_resync(id) from segmenter_subscriptions;
update segmenter_subscriptions set actual_end = now();
select segment, status, messages from segmenter_run() where segment = 'served';
select count(*) from segmenter_outbox;
select segmenter_subscribe('upstream', 'served', 't') is not null as subscribed;
update segmenter_segments set refresh_params = '{"query": {"sql": "select 1 as id"}}' where name = 'served';
select segment, status, messages from segmenter_refresh('served', dry_run => true);
select count(*) from segmenter_outbox;
select segment, status, messages from segmenter_refresh('served');
select operation, members from segmenter_outbox order by id;
-- Once it has been, later subscriptions begin at once.
select segmenter_subscribe('upstream', 'served', 'u') is not null as subscribed;
select segment, messages from segmenter_run() where segment = 'served';
select operation, members from segmenter_outbox order by id;
-- Retired before the first refresh: nothing.
select upstream.segment('unserved', 'select 1 / 0 as id');
select segmenter_subscribe('upstream', 'unserved', 't') is not null as subscribed;
select segmenter_drop_segment('unserved');
select count(*) from segmenter_outbox;

truncate segmenter_outbox, segmenter_deliveries, segmenter_handovers;
delete from segmenter_subscriptions;
delete from segmenter_consumers;
delete from segmenter_segments;
delete from segmenter_log;
drop schema upstream cascade;
drop role upstream_a, upstream_b;
