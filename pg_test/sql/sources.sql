-- Sources: a segment whose sources are not loaded waits for them, says for which and how old they
-- are, is logged once, and is tried again until they are there.
\i setup/columns.sql
create schema sources;
create table sources.orders (id int, shop int, loaded_at timestamptz, local timestamp, day date);
create table sources.segment (:columns, unique (id));
insert into segmenter_segments (name, table_name, refresh_auto, refresh_params)
values ('sources', 'sources.segment', true, '{"query": {"sql": "select distinct id from sources.orders"}}');
-- Refreshes with these sources; ages are told to the second, here to the day.
create function sources.refresh(sources jsonb, force boolean default false, dry_run boolean default false)
returns table (status text, coverage bigint, detail text) language sql as $$
    update segmenter_segments set sources = refresh.sources where name = 'sources';
    select r.status, r.coverage, regexp_replace(r.detail, '( days) \d\d:\d\d:\d\d', '\1', 'g') from segmenter_refresh('sources', null, dry_run, force) r
$$;

-- An empty table was not loaded; one row that is young enough will do.
select * from sources.refresh('[{"table": "sources.orders", "loaded_at": "loaded_at", "error_after": "1 day"}]');
select * from sources.refresh('[{"table": "sources.orders", "min_rows": 1}]');
insert into sources.orders values (1, 1, now() - interval '3 days', timezone('UTC', now()) - interval '3 days', timezone('UTC', now())::date - 3);
select * from sources.refresh('[{"table": "sources.orders", "loaded_at": "loaded_at", "error_after": "1 day"}]');
select * from sources.refresh('[{"table": "sources.orders", "loaded_at": "loaded_at", "warn_after": "2 days", "error_after": "4 days"}]');
select * from sources.refresh('[{"table": "sources.orders", "loaded_at": "loaded_at", "warn_after": "96 hours", "error_after": "1 week"}]');
select * from sources.refresh('[{"table": "sources.orders", "loaded_at": "local", "error_after": "1 day"}]');
select * from sources.refresh('[{"table": "sources.orders", "loaded_at": "day", "error_after": "5 days"}]');
-- The local time of a source is that of segmenter.timezone, whatever the session's is.
set timezone = 'Pacific/Kiritimati';
select * from sources.refresh('[{"table": "sources.orders", "loaded_at": "local", "error_after": "72 hours 1 minute"}]');
select * from sources.refresh('[{"table": "sources.orders", "loaded_at": "local", "error_after": "71 hours 59 minutes"}]');
reset timezone;

-- A filter, a number of rows, and several sources at once: each that lacks is named.
insert into sources.orders values (2, 2, now(), timezone('UTC', now()), timezone('UTC', now())::date);
select * from sources.refresh('[{"table": "sources.orders", "loaded_at": "loaded_at", "error_after": "1 day", "filter": "shop = 1"}]');
select * from sources.refresh('[{"table": "sources.orders", "loaded_at": "loaded_at", "error_after": "1 day", "filter": "shop = 2 -- only"}]');
select * from sources.refresh('[{"table": "sources.orders", "min_rows": 2}, {"table": "sources.orders", "min_rows": 5, "filter": "shop > 0"}]');
select * from sources.refresh('[
    {"table": "sources.orders", "loaded_at": "loaded_at", "error_after": "1 day", "min_rows": 3},
    {"table": "sources.orders", "loaded_at": "loaded_at", "error_after": "1 day", "filter": "shop = 1"},
    {"name": "the night job", "ready": "select false"}
]');

-- A question with one boolean for an answer; null is no.
select * from sources.refresh('[{"name": "orders", "ready": "select count(*) = 2 from sources.orders;"}]');
select * from sources.refresh('[{"name": "orders", "ready": "select count(*) > 2 from sources.orders -- yet"}]');
select * from sources.refresh('[{"name": "orders", "ready": "select null::boolean"}]');
select * from sources.refresh('[{"name": "orders", "ready": "select true where false"}]');
-- It is a source of the segment's refresher: a one-off query does not wait, and force is not for it.
select status from segmenter_refresh('sources', 'select id from sources.orders');
select * from sources.refresh('[{"name": "orders", "ready": "select false"}]', force => true);
select * from sources.refresh('[{"name": "orders", "ready": "select false"}]', dry_run => true);

-- What is wrong with a source is a failure, not a wait.
\set VERBOSITY terse
select * from sources.refresh('[{"name": "orders", "ready": "select 1"}]');
select * from sources.refresh('[{"name": "orders", "ready": "select true, true"}]');
select * from sources.refresh('[{"name": "orders", "ready": "select true; select true"}]');
select * from sources.refresh('[{"name": "orders", "ready": ""}]');
select * from sources.refresh('[{"name": "orders", "ready": "delete from sources.orders returning true"}]');
select * from sources.refresh('[{"name": "orders", "ready": "select 1 / 0 = 1"}]');
select * from sources.refresh('[{"table": "sources.nothing", "min_rows": 1}]');
select * from sources.refresh('[{"table": "sources.orders", "loaded_at": "nothing", "error_after": "1 day"}]');
select * from sources.refresh('[{"table": "sources.orders", "loaded_at": "shop", "error_after": "1 day"}]');
select * from sources.refresh('[{"table": "sources.orders", "min_rows": 1, "filter": "true); drop table sources.orders; --"}]');
select * from sources.refresh('[{"table": "sources.orders; drop table sources.orders", "min_rows": 1}]');
-- A limit that is no time span is refused when it is written.
update segmenter_segments set sources = '[{"table": "sources.orders", "loaded_at": "loaded_at", "error_after": "1 dya"}]';
\set VERBOSITY default
select count(*) from sources.orders;

-- Waiting is logged once, not at every tick; the log tells when it began and when it ended.
delete from segmenter_log;
truncate segmenter_state, segmenter_attempts;
update segmenter_segments set sources = '[{"name": "orders", "ready": "select count(*) > 2 from sources.orders"}]';
select segment, status, detail from segmenter_run();
select segment, status, detail from segmenter_run();
select last_status, coverage from segmenter_status where name = 'sources';
insert into sources.orders values (3, 3, now());
select segment, status, added, detail from segmenter_run();
delete from sources.orders where id = 3;
select segment, status, detail from segmenter_run();
select segment, status, detail from segmenter_run();
select status, added, coverage, message from segmenter_log order by id;

-- With a schedule: due once, tried until it is loaded, and then done until the next time.
delete from segmenter_log;
truncate segmenter_state, segmenter_attempts;
update segmenter_segments set refresh_cron = '0 0 1 1 *', actual_begin = now() - interval '2 years';
select segment, status from segmenter_run();
select segment, status from segmenter_run();
insert into sources.orders values (4, 3, now());
select segment, status, added from segmenter_run();
select segment, status from segmenter_run();

-- A table among the sources comes first in a run, for a procedure too, which says so in this way.
create table sources.a (like sources.segment including defaults including indexes);
create procedure sources.copy() language sql as $$
    insert into sources.a (segment_id, id)
    select (select id from segmenter_segments where name = 'a'), s.id from sources.segment s
    where s.actual_end = 'infinity' and not exists (select from sources.a where a.id = s.id)
$$;
insert into segmenter_segments (name, table_name, refresh_auto, refresh_params, sources)
values ('a', 'sources.a', true, '{"procedure": {"sql": "call sources.copy()"}}', '[{"table": "sources.segment", "loaded_at": "processed", "error_after": "1 hour"}]');
update segmenter_segments set refresh_cron = null, sources = '[]' where name = 'sources';
insert into sources.orders values (5, 3, now());
select segment, status, added, coverage, detail from segmenter_run();

-- Sources are read with the rights of the segment's owner.
create role sources_user;
grant usage on schema sources to sources_user;
alter table sources.segment owner to sources_user;
update segmenter_segments set owner = 'sources_user', refresh_params = '{"query": {"sql": "select 1 as id"}}' where name = 'sources';
select * from sources.refresh('[{"table": "sources.orders", "min_rows": 1}]');
select * from sources.refresh('[{"name": "who", "ready": "select current_user = ''sources_user''"}]');

delete from segmenter_segments;
delete from segmenter_log;
set client_min_messages = warning;
drop schema sources cascade;
drop role sources_user;
