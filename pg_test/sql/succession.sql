-- An audience takes the name of another one of the same consumer and target: the other one gives it up
-- first.
\set VERBOSITY terse
create schema succession;
create function succession.make(segment text, relation text, target text default 'ads') returns uuid language sql as $$
    select segmenter_create_segment(segment, 'select 1 as id', table_name => 'succession.' || relation);
    select segmenter_subscribe('con', segment, target);
$$;
create function succession.take("max" int default 100) returns text language plpgsql as $$
declare
    taken text;
begin
    with claimed as (select * from segmenter_claim('con', "max")),
    acked as (select message_id, operation, audience, members, segmenter_ack(lease, message_id) from claimed)
    select string_agg(operation || ' ' || audience, ', ' order by message_id) into taken from acked;
    return taken;
end
$$;
create view succession.messages as
select o.operation, o.audience, o.members, s.table_name
from segmenter_outbox o join segmenter_segments s on s.id = o.segment_id;

select succession.make('vip', 'v1') is not null;
select messages from segmenter_refresh('vip');
select succession.take();
-- Retired, and a new segment of that name: refreshed by hand.
update segmenter_segments set actual_end = now() where name = 'vip';
select succession.make('vip', 'v2') is not null;
select status, messages from segmenter_refresh('vip');
select string_agg(operation || ' ' || table_name, ', ' order by o.id) from segmenter_outbox o join segmenter_segments s on s.id = o.segment_id
where s.name = 'vip';
-- The old one's end is delivered first, also when it waits for a retry.
select segmenter_nack(lease, message_id, 'later', '1 hour') from segmenter_claim('con');
select succession.take();
select segmenter_retry(subscription_id) from segmenter_deliveries where next_attempt_at is not null;
select succession.take(1);
select succession.take();
select succession.take();

-- Renamed: the consumer gets the new name at the next run, or with what a refresh hands over.
update segmenter_segments set name = 'old vip' where name = 'vip' and actual_end = 'infinity';
select segment, status, messages, detail from segmenter_run();
select succession.take();
select segment, status, messages from segmenter_run();
update segmenter_segments set name = 'older vip' where name = 'old vip';
select status, messages from segmenter_refresh('older vip', dry_run => true);
select status, messages from segmenter_refresh('older vip');
select status, messages from segmenter_refresh('older vip');
select succession.take();
update segmenter_segments set name = 'oldest vip' where name = 'older vip';
select status, messages from segmenter_refresh('oldest vip', 'select 2 as id');
select succession.take();
update segmenter_subscriptions u set name = 'mine' from segmenter_segments s where s.id = u.segment_id and s.name = 'oldest vip';
select segment, status, messages from segmenter_run();
select succession.take();
update segmenter_subscriptions u set name = default from segmenter_segments s where s.id = u.segment_id and s.name = 'oldest vip';
select segment, status, messages from segmenter_run();
select succession.take();

-- A renamed segment's old name is taken by a new one: the renamed one is told first.
update segmenter_segments set name = 'ancient vip' where name = 'oldest vip';
select succession.make('oldest vip', 'v3') is not null;
select status, messages from segmenter_refresh('oldest vip');
select succession.take(1);
select succession.take();
-- Of another target, names are independent.
update segmenter_segments set name = 'x' where name = 'ancient vip';
select succession.make('ancient vip', 'v4', 'mail') is not null;
select status, messages from segmenter_refresh('ancient vip');
select succession.take();
select segment, status, messages from segmenter_run() order by segment;
select succession.take();

-- One that was never delivered is created and deleted before.
select succession.make('short', 'v5') is not null;
select status, messages from segmenter_refresh('short');
update segmenter_segments set actual_end = now() where name = 'short';
select succession.make('short', 'v6') is not null;
select status, messages from segmenter_refresh('short');
select succession.take(1);
select succession.take(1);
select succession.take();
select succession.take();
-- The same segment, subscribed again.
update segmenter_subscriptions u set actual_end = now() from segmenter_segments s
where s.id = u.segment_id and s.name = 'short' and s.actual_end = 'infinity' and u.actual_end = 'infinity';
select segmenter_subscribe('con', 'short', 'ads') is not null;
select status, messages from segmenter_refresh('short');
select succession.take();
select succession.take();
-- Two that share a name on purpose keep each other from nothing.
select succession.make('same', 'v7') is not null;
update segmenter_subscriptions u set name = 'short' from segmenter_segments s where s.id = u.segment_id and s.name = 'same';
select status, messages from segmenter_refresh('same');
select succession.take();

set client_min_messages = error;
delete from segmenter_subscriptions;
delete from segmenter_consumers where name = 'con';
delete from segmenter_segments where table_name::text like 'succession.%';
delete from segmenter_log where target in ('ads', 'mail') or segment_name ~ 'vip|short|same|^x$';
delete from segmenter_outbox;
drop schema succession cascade;
select segmenter_prune();
