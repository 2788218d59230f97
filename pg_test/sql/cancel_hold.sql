-- Segments that are held: automatic refreshes rest. Refreshes that are cancelled are a cluster test, progress; so is their
-- progress, which is empty here: the library is not preloaded.
\set VERBOSITY default
\i setup/columns.sql
create schema hold_until;
create function hold_until.state() returns table (due boolean, reason text, next text, status text) language sql as $$
    select d.due, regexp_replace(d.reason, '[0-9]{4}-[0-9-]+ [0-9:]+', 'TIME'),
        case d.next_refresh when 'infinity' then 'infinity' when s.hold_until then 'with the hold' else case when d.next_refresh is not null then 'by schedule' end end,
        t.last_status || coalesce(', held for ' || case when t.hold_until = 'infinity' then 'ever' when t.hold_until between now() + interval '119 minutes' and now() + interval '2 hours' then 'two hours' when t.hold_until is not null then t.hold_until::text end, '')
    from segmenter_due() d join segmenter_segments s on s.name = d.segment and s.actual_end = 'infinity' join segmenter_status t on t.id = s.id where s.name = 'held until'
$$;
select segmenter_create_segment('held until', 'select g as id from generate_series(1, 3) g', '* * * * *', 'hold_until.members') is not null as created;
select status, added from segmenter_refresh('held until');
select * from segmenter_progress;
select pg_typeof(pid), pg_typeof(segment), pg_typeof(phase), pg_typeof(rows_received), pg_typeof(started_at), pg_typeof(estimated_fraction) from segmenter_progress right join (select) one on true;

-- Nothing is going on: it is held all the same.
select segmenter_cancel('held until');
select * from hold_until.state();
select segmenter_cancel('held until', '2 hours');
select * from hold_until.state();
select segmenter_cancel('held until', hold => '2 hours') as again;
-- It is due, and rests: also for a run of all. By hand it is refreshed.
update segmenter_state t set started_at = now() - interval '1 day', ended_at = now() - interval '1 day' from segmenter_segments s where s.id = t.segment_id and s.name = 'held until';
select * from hold_until.state();
select segment, status from segmenter_run();
select segment, status from segmenter_run("all" => true);
call segmenter_run_each();
select due from segmenter_due(now() + interval '3 hours') where segment = 'held until';
select "check", status, regexp_replace(detail, '[0-9]{4}-[0-9-]+ [0-9:]+', 'TIME') as detail from segmenter_doctor() where "check" in ('held', 'due', 'schedules');
select status, added from segmenter_refresh('held until');
select status, added from segmenter_refresh('held until', dry_run => true);
-- A step of a run that was planned before.
select segmenter_run_id() as run \gset
select segmenter_run_step(s.id, s.name, null, :'run', false) as status from segmenter_segments s where s.name = 'held until';
select status, regexp_replace(message, '[0-9]{4}-[0-9-]+ [0-9:]+', 'TIME') as message from segmenter_log where run_id = :'run';
-- The definition has it, and restoring another version leaves it.
select version, array(select jsonb_object_keys(changed)) as changed from segmenter_definitions d join segmenter_segments s on s.id = d.segment_id where s.name = 'held until' and version > 1 order by 1;
update segmenter_segments set description = 'changed' where name = 'held until';
select segmenter_restore_definition('held until', 1);
select hold_until > now() as still_held from segmenter_segments where name = 'held until';
-- Members leave nevertheless whom a list gains.
create table hold_until.listed (:columns, unique (id));
insert into segmenter_segments (name, table_name, is_suppression, guards, refresh_params) values ('hold list', 'hold_until.listed', true, '{"allow_empty": true}', '{"query": {"sql": "select 2 as id"}}');
select segment, status, added, removed from segmenter_refresh('hold list');
select coverage from segmenter_status where name = 'held until';
select id from hold_until.members where actual_end = 'infinity' order by 1;
update segmenter_segments set is_suppression = false where name = 'hold list';
-- Without an end.
update segmenter_segments set hold_until = 'infinity' where name = 'held until';
select * from hold_until.state();
select "check", status, detail from segmenter_doctor() where "check" = 'held';
select segment, action, changed from segmenter_put_segment('held until', refresh_cron => '@daily');
-- The end of a hold.
update segmenter_segments set hold_until = null where name = 'held until';
select * from hold_until.state();
select "check" from segmenter_doctor() where "check" = 'held';
update segmenter_segments set hold_until = now() - interval '1 day' where name = 'held until';
select reason, hold_until from segmenter_due() d join segmenter_status s on s.name = d.segment where s.name = 'held until';
-- One that reads it does not wait for what it does not become due for.
select segmenter_create_segment('hold reader', 'select id from hold_until.members where actual_end = ''infinity''', '@daily', 'hold_until.reader') is not null as created;
update segmenter_state t set started_at = now() - interval '3 days', ended_at = now() - interval '3 days' from segmenter_segments s where s.id = t.segment_id and s.name = 'held until';
select status from segmenter_refresh('hold reader');
update segmenter_segments set hold_until = now() + interval '1 hour' where name = 'held until';
select status from segmenter_refresh('hold reader');

-- What cannot be.
select segmenter_cancel(null);
select segmenter_cancel('nobody');
select segmenter_cancel('held until', '0');
select segmenter_cancel('held until', '-1 hour');
select segmenter_cancel('held until', '170000000 years');
select segmenter_cancel('held until', 'an hour');

set client_min_messages = error;
delete from segmenter_segments where name in ('held until', 'hold list', 'hold reader');
delete from segmenter_log where segment_name in ('held until', 'hold list', 'hold reader');
drop schema hold_until cascade;
