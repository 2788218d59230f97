-- Clocks that were ahead: a recorded time that lies in the future decides nothing, and the doctor says
-- so. Load times and limits that are infinite or absurd.
\set VERBOSITY terse
set client_min_messages = warning;
create schema clocks;
create function clocks.doctor(checks text[] default '{clock}') returns table ("check" text, status text, detail text) language sql as $$
    select d."check", d.status, regexp_replace(d.detail, '\d{4,}-\d\d-\d\d \d\d:\d\d:\d\d', 'TIME', 'g')
    from segmenter_doctor() d where d."check" = any (checks)
$$;
select segmenter_create_segment('s', 'select 1 as id', '0 0 1 1 *', 'clocks.s') is not null as created;
select segmenter_create_segment('r', 'select 1 as id', '0 0 1 1 *', 'clocks.r') is not null as created;
select segment, status from segmenter_refresh('s') union all select segment, status from segmenter_refresh('r');
select segment, due, reason from segmenter_due();
select * from clocks.doctor();

-- What a refresh under a clock ten years ahead leaves behind: it is due, and the next one is as any.
update segmenter_state set started_at = started_at + interval '10 years', ended_at = ended_at + interval '10 years';
select segment, due, reason, next_refresh from segmenter_due();
select * from clocks.doctor();
select segment, status from segmenter_run();
select segment, due, reason from segmenter_due();
select segment, status from segmenter_run();
-- The same of a failure. Some milliseconds are nothing.
update segmenter_segments set refresh_params = '{"query": {"sql": "select 1 / 0 as id"}}' where name = 's';
set client_min_messages = error;
select segment, status from segmenter_refresh('s');
update segmenter_attempts set started_at = started_at + interval '8 hours', ended_at = ended_at + interval '8 hours' where status = 'failed';
select segment, due, reason from segmenter_due();
select segment, status from segmenter_run();
update segmenter_segments set refresh_params = '{"query": {"sql": "select 1 as id"}}' where name = 's';
select segment, status from segmenter_refresh('s');
set client_min_messages = warning;
update segmenter_state set started_at = clock_timestamp() + interval '500 milliseconds';
select segment, due, reason from segmenter_due();
-- By hand only: nothing is due.
update segmenter_segments set refresh_auto = false where name = 'r';
update segmenter_state set started_at = clock_timestamp() + interval '1 day', changed_at = changed_at + interval '1 day';
select segment, due, reason from segmenter_due();
-- Members begin at the latest time of the history.
select status from segmenter_refresh('r', 'select 2 as id');
select id, actual_begin > localtimestamp + interval '20 hours' as is_ahead, actual_end > localtimestamp + interval '20 hours' as ends_ahead from clocks.r order by id;
select * from clocks.doctor();
update segmenter_state set started_at = now(), ended_at = now(), changed_at = null;
select * from clocks.doctor();

-- An incremental refresher: changes since the right time are not missed.
create table clocks.people (id int primary key, changed_at timestamptz not null default clock_timestamp());
insert into clocks.people select generate_series(1, 3);
select segmenter_create_segment('i', 'select id from clocks.people', null, 'clocks.i') is not null as created;
update segmenter_segments set refresh_params = '{"incremental": {"changed": "select id from clocks.people where changed_at > $1", "sql": "select p.id from clocks.people p join changed using (id)"}}' where name = 'i';
select status from segmenter_refresh('i');
insert into clocks.people values (4);
select status, added from segmenter_refresh('i');
select params #>> '{incremental,pass}' as pass from segmenter_log where segment_name = 'i' order by id;
update segmenter_state set checkpoint = jsonb_set(checkpoint, '{watermark}', to_jsonb(clock_timestamp() + interval '8 hours')) where checkpoint is not null;
insert into clocks.people values (5);
select * from clocks.doctor();
select status, added from segmenter_refresh('i');
update segmenter_state set checkpoint = jsonb_set(checkpoint, '{full_at}', to_jsonb(clock_timestamp() + interval '8 hours')) where checkpoint is not null;
insert into clocks.people values (6);
select status, added from segmenter_refresh('i');
select params #>> '{incremental,pass}' as pass, params #>> '{incremental,reason}' as reason from segmenter_log where segment_name = 'i' order by id;

-- Deliveries: leases, retries and messages.
select segmenter_subscribe('clocks', 's', 't') is not null as subscribed;
select status, messages from segmenter_refresh('s');
select count(*) from segmenter_claim('clocks', 10);
select count(*) from segmenter_claim('clocks', 10);
update segmenter_deliveries set leased_until = leased_until + interval '8 hours';
select * from clocks.doctor();
select count(*) from segmenter_claim('clocks', 10, '2 days');
select count(*) from segmenter_claim('clocks', 10);
do $$ begin perform segmenter_nack(d.lease, min(o.id), 'no', '3 days') from segmenter_deliveries d, segmenter_outbox o group by d.lease; end $$;
select count(*) from segmenter_claim('clocks', 10);
update segmenter_deliveries set next_attempt_at = next_attempt_at + interval '8 hours';
select count(*) from segmenter_claim('clocks', 1);
update segmenter_deliveries set leased_until = null, next_attempt_at = null, lease = null;
update segmenter_outbox set available_at = available_at + interval '10 years', created_at = created_at + interval '10 years';
select count(*) from segmenter_claim('clocks', 10);
update segmenter_deliveries set leased_until = null, lease = null;
update segmenter_outbox set created_at = created_at - interval '10 years';
select count(*) from segmenter_claim('clocks', 10);
-- A schedule may well make messages wait.
update segmenter_subscriptions set cron = '0 0 1 1 *';
update segmenter_deliveries set leased_until = null, lease = null;
select count(*) from segmenter_claim('clocks', 10);

-- Retention: an entry in the future is as old as those after it; what is delivered is deleted.
update segmenter_subscriptions set cron = null;
update segmenter_deliveries set leased_until = null, lease = null;
do $$ begin perform segmenter_ack(c.lease, c.message_id) from segmenter_claim('clocks', 10) c; end $$;
update segmenter_outbox set created_at = created_at + interval '10 years';
update segmenter_deliveries set delivered_at = delivered_at + interval '10 years', marked_at = array[now() + interval '10 years'];
delete from segmenter_log;
insert into segmenter_log (processed, action, status, message) values
    (now() - interval '100 days', 'refresh', 'ok', 'old'), (now() + interval '10 years', 'refresh', 'ok', 'ahead'),
    (now() - interval '99 days', 'refresh', 'ok', 'old'), (now() + interval '10 years', 'refresh', 'ok', 'ahead, later'),
    (now(), 'refresh', 'ok', 'new');
select segmenter_prune();
select message from segmenter_log where action = 'refresh' order by id;
select count(*) from segmenter_outbox;

-- Load times.
create table clocks.src (id int, loaded_at timestamptz, day date);
insert into clocks.src values (1, '-infinity', '-infinity');
select segmenter_create_segment('loaded', 'select id from clocks.src', null, 'clocks.loaded') is not null as created;
update segmenter_segments set sources = '[{"table": "clocks.src", "loaded_at": "loaded_at", "error_after": "1 day"}]' where name = 'loaded';
select status, detail from segmenter_refresh('loaded');
update clocks.src set loaded_at = 'infinity';
set client_min_messages = error;
select status, detail from segmenter_refresh('loaded');
set client_min_messages = warning;
select error ->> 'sqlstate' as sqlstate, error ->> 'hint' as hint from segmenter_log where status = 'failed';
update clocks.src set loaded_at = '2999-01-01 00:00+00';
select status, detail from segmenter_refresh('loaded');
select * from clocks.doctor('{sources}') where detail like '%future%';
update clocks.src set loaded_at = clock_timestamp() + interval '1 minute';
select status, detail from segmenter_refresh('loaded');
select * from clocks.doctor('{sources}') where detail like '%future%';
-- A limit that only warns does not block.
delete from clocks.src;
update segmenter_segments set sources = '[{"table": "clocks.src", "loaded_at": "day", "warn_after": "1 day"}]', guards = '{"allow_empty": true}' where name = 'loaded';
select status, detail from segmenter_refresh('loaded');
insert into clocks.src values (1, null, 'infinity');
set client_min_messages = error;
select status, detail from segmenter_refresh('loaded');
set client_min_messages = warning;

-- Limits.
update segmenter_segments set sources = '[{"table": "clocks.src", "loaded_at": "day", "error_after": "1000000 years"}]' where name = 'loaded';
update segmenter_segments set sources = '[{"table": "clocks.src", "loaded_at": "day", "warn_after": "-1 day"}]' where name = 'loaded';
update segmenter_consumers set params = '{"updater": {"http": {"url": "http://localhost/x", "timeout": "100000 years"}}}';
select segmenter_claim('clocks', 1, '10000 years');
select segmenter_nack(gen_random_uuid(), 1, 'no', '10000 years');

-- The zone of the members' times is kept with them.
select timezone from segmenter_state where segment_id = (select id from segmenter_segments where name = 's');
update segmenter_state set timezone = 'Europe/Berlin' where segment_id = (select id from segmenter_segments where name = 's');
select status, detail from segmenter_refresh('s');
select * from clocks.doctor('{time zones}') where status = 'problem';
update segmenter_state set timezone = null where timezone = 'Europe/Berlin';
select status, detail from segmenter_refresh('s');
select timezone from segmenter_state where segment_id = (select id from segmenter_segments where name = 's');

-- A name that is also an abbreviation is the zone: summer time in summer. The doctor compares the rules
-- that PostgreSQL and the schedules know, of every zone in use.
update segmenter_segments set refresh_timezone = 'CET' where name = 's';
select * from clocks.doctor('{time zones}') where status = 'problem';
do $$ begin execute format('alter database %I set segmenter.timezone = ''CET''', current_database()); end $$;
select segmenter_create_segment('cet', 'select 1 as id', null, 'clocks.cet') is not null as created;
select status from segmenter_refresh('cet');
select timezone from segmenter_state where segment_id = (select id from segmenter_segments where name = 'cet');
set timezone = 'CET';
select abs(extract(epoch from actual_begin - clock_timestamp()::timestamp)) < 60 as is_local from clocks.cet;
reset timezone;
do $$ begin execute format('alter database %I reset segmenter.timezone', current_database()); end $$;
select status, detail from segmenter_refresh('cet', 'select 2 as id');

truncate segmenter_outbox, segmenter_deliveries, segmenter_handovers;
delete from segmenter_subscriptions;
delete from segmenter_consumers;
delete from segmenter_segments;
delete from segmenter_log;
drop schema clocks cascade;
