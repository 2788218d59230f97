-- When segments are due: schedules, retries, zones, and what the log says of the last attempts.
set timezone = 'Asia/Tokyo';
create schema due;
create function due.add(name text, cron text, zone text default null, auto boolean default true) returns void
language plpgsql as $$
begin
    execute format('create table due.%I (like segmenter including defaults, unique (id))', name);
    insert into segmenter_segments (name, table_name, refresh_auto, refresh_cron, refresh_timezone, refresh_params, actual_begin)
    values (name, format('due.%I', name)::regclass, auto, cron, zone, '{"query": {"sql": "select 1 as id"}}', '2026-01-01 00:00+00');
end $$;
-- An attempt, made up.
-- As a refresh records its end.
create function due.attempt(segment text, began timestamptz, how text, took interval default '10 s')
returns void language sql as $$
    insert into segmenter_state as t (segment_id, refreshes, started_at, ended_at)
    select s.id, 1, began, began + took from segmenter_segments s where s.name = segment and how = 'ok'
    on conflict (segment_id) do update set refreshes = t.refreshes + 1, started_at = began, ended_at = began + took;

    insert into segmenter_attempts as a (segment_id, refreshes, status, started_at, ended_at, waiting_since, failures)
    select s.id, coalesce(t.refreshes, 0), how, began, began + took, case how when 'waiting' then began end, case when how in ('failed', 'interrupted') then 1 else 0 end
    from segmenter_segments s left join segmenter_state t on t.segment_id = s.id
    where s.name = segment and how <> 'ok'
    on conflict (segment_id) do update set
        refreshes = excluded.refreshes,
        status = how,
        waiting_since = excluded.waiting_since,
        started_at = case how when 'waiting' then a.started_at else began end,
        ended_at = case how when 'waiting' then a.ended_at else began + took end,
        failures = case
            when how = 'refused' then 0
            when a.refreshes = excluded.refreshes then a.failures + excluded.failures
            else excluded.failures
        end
$$;
create function due.show(at timestamptz) returns table (segment text, last_refresh timestamptz, next_refresh timestamptz, due boolean, reason text)
language sql as $$
    select segment, last_refresh, next_refresh, due, reason from segmenter_due(at) where segment like 'due %'
$$;

select due.add('due daily', '@daily');
select due.add('due by hand', '@daily', auto => false);
select due.add('due always', null);
select due.add('due never', '0 0 30 2 *');
select due.add('due berlin', '30 2 * * *', 'Europe/Berlin');
select due.add('due hourly', '30 * * * *', 'Europe/Berlin');
set timezone = 'UTC';
select * from due.show('2026-01-01 12:00+00');
select * from due.show('2026-01-02 00:00+00') where due;
select segment, due from due.show('2026-01-01 23:59:59.999999+00') where segment = 'due daily';

-- The next time counts from the beginning of an attempt, whatever it came to; to wait, to be passed
-- over, to run, or to be busy is none.
select due.attempt('due daily', '2026-03-01 23:59:55+00', 'ok');
select * from due.show('2026-03-02 00:00+00') where segment = 'due daily';
-- What the log says makes no difference.
insert into segmenter_log (processed, action, status, segment_id) select '2026-03-02 00:00:03+00', 'refresh', 'ok', id from segmenter_segments where name = 'due daily';
select * from due.show('2026-03-02 12:00+00') where segment = 'due daily';
select due.attempt('due daily', '2026-03-02 00:00:05+00', 'refused');
select due.attempt('due daily', '2026-03-03 00:00:01+00', 'waiting');
select * from due.show('2026-03-03 12:00+00') where segment = 'due daily';

-- Retries: later and later, up to an hour, but never after the schedule.
set segmenter.retry_delay = '1min';
select due.attempt('due daily', '2026-03-04 00:00+00', 'failed');
select * from due.show('2026-03-04 00:01+00') where segment = 'due daily';
select due.attempt('due daily', '2026-03-04 00:10+00', 'interrupted');
select * from due.show('2026-03-04 00:12:10+00') where segment = 'due daily';
select due.attempt('due daily', '2026-03-04 01:00+00', 'failed') from generate_series(1, 10);
select * from due.show('2026-03-04 02:00:09+00') where segment = 'due daily';
select due.attempt('due daily', '2026-03-04 23:30+00', 'failed');
select * from due.show('2026-03-04 23:59+00') where segment = 'due daily';
set segmenter.retry_delay = 0;
select * from due.show('2026-03-04 23:59+00') where segment = 'due daily';
reset segmenter.retry_delay;
select due.attempt('due daily', '2026-03-05 00:00:01+00', 'ok');
select * from due.show('2026-03-05 12:00+00') where segment = 'due daily';

-- The clocks go forward at 01:00 UTC: a fixed time in the gap comes once, right after it.
select due.attempt('due berlin', '2021-03-27 12:00+00', 'ok'), due.attempt('due hourly', '2021-03-28 00:30:01+00', 'ok');
select * from due.show('2021-03-28 00:59:59+00') where segment in ('due berlin', 'due hourly');
select * from due.show('2021-03-28 01:00+00') where segment in ('due berlin', 'due hourly');
select due.attempt('due berlin', '2021-03-28 01:00:01+00', 'ok');
select * from due.show('2021-03-28 02:00+00') where segment = 'due berlin';
-- They go back at 01:00 UTC: a fixed time that comes twice comes once, an hourly one follows real time.
select due.attempt('due berlin', '2026-10-24 12:00+00', 'ok'), due.attempt('due hourly', '2026-10-25 00:30:01+00', 'ok');
select * from due.show('2026-10-25 00:30+00') where segment in ('due berlin', 'due hourly');
select due.attempt('due berlin', '2026-10-25 00:30:01+00', 'ok');
select * from due.show('2026-10-25 01:30+00') where segment in ('due berlin', 'due hourly');
-- The session's zone makes no difference.
set timezone = 'America/New_York';
select due, reason, next_refresh = '2026-10-26 01:30+00' as as_before from due.show('2026-10-25 01:30+00') where segment = 'due berlin';
set timezone = 'UTC';

-- Bad input.
select * from segmenter_due(null);
\set VERBOSITY sqlstate
set segmenter.retry_delay = '2h';
set segmenter.log_retention = -2;
\set VERBOSITY default
set segmenter.databases = 'x';
alter system set segmenter.databases = '"x';
set segmenter.max_worker = 1;

-- The status says the same.
select name, next_refresh from segmenter_status where name in ('due daily', 'due never', 'due by hand') order by 1;

-- A failed refresh is tried again by runs, when its time has come.
update segmenter_segments set refresh_auto = false where name like 'due %';
update segmenter_segments set refresh_auto = true, refresh_cron = '@yearly', actual_begin = now() - interval '2 years',
    refresh_params = '{"query": {"sql": "select 1 / 0 as id"}}' where name = 'due never';
set segmenter.retry_delay = '1h';
select segment, status, detail from segmenter_run() where segment like 'due %';
select segment, status, detail from segmenter_run() where segment like 'due %';
-- With another definition at once, however that comes about; not with another description, and not twice.
update segmenter_segments set description = 'x' where name = 'due never';
select segment, due, reason from segmenter_due() where segment = 'due never';
update segmenter_segments set refresh_params = '{"query": {"sql": "select 2 / 0 as id"}}' where name = 'due never';
select segment, due, reason from segmenter_due() where segment = 'due never';
select segment, status, detail from segmenter_run() where segment like 'due %';
select segment, due, reason from segmenter_due() where segment = 'due never';
select segmenter_restore_definition('due never', (select max(d.version) - 1 from segmenter_definitions d join segmenter_segments s on s.id = d.segment_id where s.name = 'due never')) > 1 as restored;
select segment, due, reason from segmenter_due() where segment = 'due never';
select segment, status, detail from segmenter_run() where segment like 'due %';
select action, changed from segmenter_put_segment('due never', guards => '{"allow_empty": true}');
select segment, due, reason from segmenter_due() where segment = 'due never';
-- An attempt that is recorded without its definition; a new one has it again.
update segmenter_attempts set definition = null where segment_id = (select id from segmenter_segments where name = 'due never');
select segment, due, reason from segmenter_due() where segment = 'due never';
select segment, status, detail from segmenter_refresh('due never');
select segment, due, reason from segmenter_due() where segment = 'due never';
update segmenter_attempts set started_at = started_at - interval '61 min', ended_at = ended_at - interval '61 min' where segment_id = (select id from segmenter_segments where name = 'due never');
update segmenter_segments set refresh_params = '{"query": {"sql": "select 1 as id"}}' where name = 'due never';
select segment, reason from segmenter_due() where due and segment like 'due %';
select segment, status, detail from segmenter_run() where segment like 'due %';
select segment, due, reason from segmenter_due() where segment = 'due never';
reset segmenter.retry_delay;

-- Old entries of the log go, whatever they say: nothing depends on them.
delete from segmenter_log where segment_name like 'due %';
insert into segmenter_log (processed, action, status, segment_id, segment_name)
select now() - (n || ' days')::interval, 'refresh', u.status, s.id, s.name
from generate_series(200, 100, -20) n, unnest('{ok,failed}'::text[]) u (status), segmenter_segments s where s.name = 'due daily';
insert into segmenter_log (processed, action, status, segment_id, segment_name)
select now() - interval '10 days', 'refresh', 'ok', s.id, s.name
from generate_series(1, 2), segmenter_segments s where s.name = 'due daily';
insert into segmenter_log (processed, action, status, segment_name) values (now() - interval '91 days', 'refresh', 'failed', 'due and gone');
select segmenter_prune();
select status, count(*), date_trunc('day', now() - min(processed)) as oldest from segmenter_log where segment_name like 'due %' group by 1 order by 1;
set segmenter.log_retention = '1d';
select segmenter_prune();
select status, count(*), date_trunc('day', now() - min(processed)) as oldest from segmenter_log where segment_name like 'due %' group by 1 order by 1;
set segmenter.log_retention = -1;
reset segmenter.log_retention;

-- Others see their own segments only.
create role due_nobody;
set role due_nobody;
select count(*) from segmenter_due();
select "check", status from segmenter_doctor() where "check" in ('due', 'schedules', 'tables', 'refreshes', 'sources');
reset role;
drop role due_nobody;
delete from segmenter_log where segment_name like 'due %';
delete from segmenter_segments where name like 'due %';
drop schema due cascade;
