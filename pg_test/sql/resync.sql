-- resync_cron in the params of subscriptions: all members are handed over again at times of a schedule.
\set VERBOSITY terse
create schema resync;
create table resync.people (id int primary key);
insert into resync.people select generate_series(1, 3);
create table resync.refused (id int primary key);
select segmenter_create_segment('resync list', 'select id from resync.refused', table_name => 'resync.list') is not null as is_created;
select segmenter_create_segment('resync', 'select id from resync.people', '0 0 1 1 *', 'resync.members') is not null as is_created;
update segmenter_segments set exclude = '["resync list"]' where name = 'resync';
update segmenter_segments set guards = '{"allow_empty": true}' where name like 'resync%';
insert into segmenter_consumers (name, params) values ('resync', '{"max_attempts": 1}');
create function resync.subscribe(target text, params jsonb) returns void language sql as $$
    insert into segmenter_subscriptions (consumer_id, segment_id, target, params)
    select c.id, s.id, $1, '{"fields": ["id"]}' || $2 from segmenter_consumers c, segmenter_segments s where c.name = 'resync' and s.name = 'resync'
$$;
create function resync.set(target text, params jsonb) returns void language sql as $$
    update segmenter_subscriptions u set params = jsonb_strip_nulls(u.params || $2) where u.target = $1
$$;
-- When all members were handed over last.
create function resync.replaced(target text, at timestamptz) returns void language sql as $$
    update segmenter_handovers h set replaced_at = $2 from segmenter_subscriptions u where u.id = h.subscription_id and u.target = $1
$$;
create view resync.last as
select u.target, h.replaced_at between now() - interval '1 minute' and clock_timestamp() as is_recent
from segmenter_subscriptions u join segmenter_handovers h on h.subscription_id = u.id where u.target like 'resync%' order by 1;
create view resync.run as select segment, status, messages, detail from segmenter_run() where segment = 'resync';
-- The messages since the last look.
create table resync.seen (through bigint); insert into resync.seen select coalesce(max(id), 0) from segmenter_outbox;
create function resync.messages() returns table (target text, operation text, members text) language plpgsql as $$
begin
    return query select u.target, o.operation, (
        select string_agg(m ->> 'id', ' ' order by m ->> 'id') from jsonb_array_elements(o.payload -> 'members') m
    ) from segmenter_outbox o join segmenter_subscriptions u on u.id = o.subscription_id
    where o.id > (select s.through from resync.seen s) and o.payload -> 'segment' ->> 'name' = 'resync' order by u.target, o.id;
    update resync.seen set through = coalesce((select max(id) from segmenter_outbox), 0);
end $$;

-- Checked when it is written.
\set VERBOSITY default
select resync.subscribe('wrong', '{"resync_cron": "0 25 * * *"}');
select resync.subscribe('wrong', '{"resync_cron": "monthly"}');
select resync.subscribe('wrong', '{"resync_cron": 5}');
\set VERBOSITY terse
select resync.subscribe('resync never', '{"resync_cron": "0 0 30 2 *"}');
update segmenter_subscriptions set cron = '0 0 31 4 *' where target = 'resync never';
select status, detail, hint from segmenter_doctor() where "check" = 'schedules' and detail like '%resync%' order by detail;
update segmenter_subscriptions set cron = null where target = 'resync never';
select resync.subscribe('resync', '{"resync_cron": "@yearly"}');
select resync.subscribe('resync without', '{}');
select status from segmenter_refresh('resync list');
select status, messages from segmenter_refresh('resync');
select * from resync.messages();
select * from resync.last;

-- Nothing is due. A time that has passed: once, however many have, and only where there is a schedule. The segment is not due.
select * from resync.run;
select resync.replaced('resync', '2020-01-15'), resync.replaced('resync never', '2020-01-15'), resync.replaced('resync without', '2020-01-15');
begin;
select * from resync.run;
select * from resync.messages();
select * from resync.last;
select * from resync.run;
select target, status, coverage, reason, message, params -> 'operations' as operations from segmenter_log
where action = 'hand over' and segment_name = 'resync' order by id desc limit 1;
rollback;
-- The same by a refresh: all members in place of the delta.
begin;
insert into resync.people values (4);
select messages from segmenter_refresh('resync', dry_run => true);
select messages from segmenter_refresh('resync');
select * from resync.messages();
select target, reason, message from segmenter_log where action = 'hand over' and segment_name = 'resync' order by id desc limit 3;
select messages from segmenter_refresh('resync');
rollback;
-- Not known when it was (after an update), and a clock that was ahead: at once.
begin;
select resync.replaced('resync', null), resync.replaced('resync never', null);
select * from resync.run;
select * from resync.run;
select resync.replaced('resync', now() + interval '1 year'), resync.replaced('resync never', now() + interval '1 year');
select * from resync.run;
select * from resync.last;
select * from resync.run;
rollback;
-- The schedule is in the subscription's time zone: ten minutes ago by the clocks of Kathmandu, hours away by others.
begin;
select resync.replaced('resync', now() - interval '20 minutes');
select resync.set('resync', jsonb_build_object('resync_cron', to_char((now() - interval '10 minutes') at time zone 'Asia/Kathmandu', 'FMMI FMHH24') || ' * * *'));
select * from resync.run;
update segmenter_subscriptions set timezone = 'Asia/Kathmandu' where target = 'resync';
select * from resync.run;
rollback;

-- Held back: a pause, too few members. Then once.
begin;
select resync.set('resync', '{"paused": true}');
select * from resync.run;
select messages from segmenter_refresh('resync');
select * from resync.messages();
select resync.set('resync', '{"paused": false}');
select * from resync.run;
select * from resync.messages();
select * from resync.run;
select resync.set('resync', '{"min_members": 4}'), resync.replaced('resync', '2020-01-15');
select * from resync.run;
select * from resync.run;
insert into resync.people values (4);
select messages from segmenter_refresh('resync');
select * from resync.messages();
rollback;
-- Whom a list has gained is not in it.
insert into resync.refused values (2);
select messages from segmenter_refresh('resync list');
select target, operation, members from resync.messages();
select * from resync.run;
select target, operation, members from resync.messages();

set client_min_messages = error;
delete from segmenter_subscriptions where target in ('resync never', 'resync without');
reset client_min_messages;
-- Taken with a rest, and stuck: the doctor lists it until the replace is delivered. What waits is discarded.
select segmenter_ack(lease, message_id) from segmenter_claim('resync');
select segmenter_ack(lease, message_id, '{"num_received": 2, "num_invalid": 1}') from segmenter_claim('resync');
insert into resync.people values (5);
select messages from segmenter_refresh('resync');
select segmenter_nack(lease, message_id, 'too small') from segmenter_claim('resync');
select status from segmenter_subscriptions where target = 'resync';
select status, detail from segmenter_doctor() where detail like '%"resync"%' and status <> 'ok' order by detail;
select resync.replaced('resync', '2020-01-15');
select * from resync.run;
select status from segmenter_subscriptions where target = 'resync';
select operation, members, segmenter_ack(lease, message_id) from segmenter_claim('resync', 100);
select status, detail from segmenter_doctor() where detail like '%"resync"%' and status <> 'ok' order by detail;

-- Mode replace: each refresh hands over all members, so the schedule counts from there.
select resync.set('resync', '{"mode": "replace"}'), resync.replaced('resync', '2020-01-15');
select messages from segmenter_refresh('resync');
select * from resync.last where target = 'resync';
select * from resync.run;
select resync.replaced('resync', '2020-01-15');
select * from resync.run;
-- An audience that has ended has no schedule.
select resync.replaced('resync', '2020-01-15');
update segmenter_subscriptions set actual_end = clock_timestamp() where target = 'resync';
select * from resync.run;
select * from resync.run;

-- A resync that cannot be handed over discards nothing of what waits, not the audience's create either.
alter table resync.members add note text;
select resync.subscribe('resync fails', '{"fields": ["id", "note"], "resync_cron": "@yearly"}');
select * from resync.run;
select target, operation from resync.messages() where target = 'resync fails';
alter table resync.members drop note;
select resync.replaced('resync fails', '2020-01-15');
select * from resync.run;
select target, operation from resync.messages() where target = 'resync fails';
alter table resync.members add note text;
select status, messages from segmenter_refresh('resync');
select target, operation from resync.messages() where target = 'resync fails';

set client_min_messages = error;
delete from segmenter_subscriptions where target like 'resync%';
delete from segmenter_consumers where name = 'resync';
delete from segmenter_segments where name like 'resync%';
delete from segmenter_log where segment_name like 'resync%';
delete from segmenter_outbox;
drop schema resync cascade;
select segmenter_prune();
