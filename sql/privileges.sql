-- Nobody may do anything, and then what is safe: rows are filtered by the
-- policies below to those that belong to roles the user is a member of.

revoke all on segmenter, segmenter_segments, segmenter_consumers, segmenter_subscriptions,
    segmenter_log, segmenter_outbox, segmenter_changes, segmenter_deliveries, segmenter_status from public;
grant select on segmenter, segmenter_status, segmenter_log, segmenter_outbox, segmenter_deliveries to public;
grant select, insert, update, delete on segmenter_segments, segmenter_consumers, segmenter_subscriptions to public;

-- What these functions do is checked anew in each of them, against whoever calls. Triggers are
-- fired, never called.
revoke all on function segmenter_refresh, segmenter_run, segmenter_run_plan, segmenter_run_step,
    segmenter_create_segment, segmenter_cron_next, segmenter_due, segmenter_doctor, segmenter_prune,
    segmenter_subscribe, segmenter_claim, segmenter_ack, segmenter_nack, segmenter_retry, segmenter_skip,
    segmenter_resync, segmenter_erase, segmenter_may_act_as, segmenter_message, segmenter_watch, segmenter_unwatch, segmenter_capture, segmenter_notice_segments, segmenter_check_segment,
    segmenter_register_segment, segmenter_check_consumer, segmenter_check_subscription from public;
revoke all on procedure segmenter_run_each from public;
grant execute on function segmenter_refresh, segmenter_run, segmenter_run_plan, segmenter_run_step,
    segmenter_create_segment, segmenter_cron_next, segmenter_due, segmenter_doctor,
    segmenter_prune, segmenter_subscribe, segmenter_claim, segmenter_ack, segmenter_nack, segmenter_retry,
    segmenter_skip, segmenter_resync, segmenter_erase, segmenter_watch, segmenter_unwatch to public;
-- The policies below ask it as whoever reads.
grant execute on function segmenter_may_act_as to public;
-- Whoever owns a table puts it up there; it records what is written in that table only.
grant execute on function segmenter_capture to public;
grant execute on procedure segmenter_run_each to public;

alter table segmenter_segments enable row level security;
create policy segmenter_member on segmenter_segments
    using (segmenter_may_act_as(owner));
comment on policy segmenter_member on segmenter_segments is 'segments of roles the user is a member of';

alter table segmenter_consumers enable row level security;
create policy segmenter_member on segmenter_consumers
    using (segmenter_may_act_as(role));
comment on policy segmenter_member on segmenter_consumers is 'consumers of roles the user is a member of';

-- A subscription is changed by those who own the segment, and seen by the consumer too.
alter table segmenter_subscriptions enable row level security;
create policy segmenter_member on segmenter_subscriptions
    using (segment_id in (select s.id from segmenter_segments s));
create policy segmenter_consumer on segmenter_subscriptions for select
    using (consumer_id in (select c.id from segmenter_consumers c));
comment on policy segmenter_member on segmenter_subscriptions is 'subscriptions to segments that the user may see';
comment on policy segmenter_consumer on segmenter_subscriptions is 'subscriptions of consumers that the user may see';

alter table segmenter enable row level security;
-- Only what stands in a segment's own table is its member: in their tables others may write anything.
create policy segmenter_member on segmenter for select
    using (exists (
        select from segmenter_segments s
        where s.id = segmenter.segment_id and s.table_name = segmenter.tableoid
    ));
comment on policy segmenter_member on segmenter is 'members of segments that the user may see';

alter table segmenter_log enable row level security;
-- One row is looked up in the segments, many are met with all of them: with EXISTS PostgreSQL chooses.
create policy segmenter_member on segmenter_log for select
    using (exists (select from segmenter_segments s where s.id = segmenter_log.segment_id));
comment on policy segmenter_member on segmenter_log is 'what happened to segments that the user may see';

alter table segmenter_outbox enable row level security;
create policy segmenter_member on segmenter_outbox for select
    using (segment_id in (select s.id from segmenter_segments s));
comment on policy segmenter_member on segmenter_outbox is 'messages of segments that the user may see';

alter table segmenter_deliveries enable row level security;
create policy segmenter_member on segmenter_deliveries for select
    using (subscription_id in (select s.id from segmenter_subscriptions s));
comment on policy segmenter_member on segmenter_deliveries is 'deliveries of subscriptions that the user may see';

-- One word on what is still to be set up, at the end of CREATE EXTENSION, which keeps notices of its
-- script back unless told otherwise.
select set_config('client_min_messages', 'notice', true) where current_setting('client_min_messages') = 'warning';
select segmenter_say_what_is_missing();
drop function segmenter_say_what_is_missing();
