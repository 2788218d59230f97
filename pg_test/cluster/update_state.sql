-- What must be the same before and after the update, and whatever becomes of the log: what is due and when, the status,
-- the figures, the messages that wait, the members. Of the set :set, at the time :at, as the session's role; the columns of
-- the old version.
\i :dir/update_set.sql
\pset null (null)
\echo == due
select d.* from unnest(array['0', '9 minutes', '15 minutes', '1 hour', '400 days']::interval[]) i, lateral (
    select i, segment, refresh_cron, last_refresh, next_refresh, due, reason from segmenter_due(:'at'::timestamptz + i)) d
order by 1, 2;
\echo == status
select name, table_name, context, refresh_auto, refresh_cron, last_refresh, last_status, next_refresh, coverage, added, removed, changed
from :status group by 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 order by 1, 2;
\echo == errors
select distinct name, last_error from :status order by 1;
\echo == audiences
select name, update_consumer, update_target, update_name, update_params, update_cron, update_status, pending_messages, last_delivery, last_receipt, delivery_error
from :status where update_target is not null order by 1, 2, 3;
\echo == config
select id, name, description, table_name, owner, context, refresh_auto, refresh_params, refresh_cron, refresh_timezone, sources, guards, actual_begin, actual_end from :segments order by id;
select id, name, description, role, params, actual_begin, actual_end from :consumers order by id;
select id, consumer_id, segment_id, target, name, params, cron, timezone, status, external_id, actual_begin, actual_end from :subscriptions order by id;
\echo == messages
select id, created_at, available_at, consumer_id, subscription_id, segment_id, run_id, operation, part, parts, members, payload from :outbox order by id;
\echo == deliveries
select subscription_id, delivered_through, lease, leased_until, attempts, next_attempt_at, last_error, delivered_at, leased_through from :deliveries order by 1;
\echo == members
select tableoid::regclass, m.* from :mart m order by 1, m.segment_id, m.id, m.actual_begin;
