-- Discards the waiting messages of the subscription $1, which a resync replaces, and clears its
-- failure. Rows that the consumer has locked are left alone: then what waits is delivered before. No
-- row: nothing was discarded.
-- runs as: set owner
-- params: subscription uuid
-- row: has_create boolean
with cursor as (
    select d.subscription_id, d.delivered_through
    from @deliveries@ d
    where d.subscription_id = $1
    for update skip locked
), subscription as materialized (
    select u.id
    from @subscriptions@ u
    where u.id = (select k.subscription_id from cursor k)
    for no key update skip locked
), waiting as (
    select max(o.id) as last, bool_or(o.operation = 'create') as has_create
    from @outbox@ o
    join cursor k on k.subscription_id = o.subscription_id
    where o.id > k.delivered_through
), cleared as (
    update @subscriptions@ u
    set status = 'queued'
    from subscription b
    where u.id = b.id and u.status = 'failed'
)
update @deliveries@ d
set delivered_through = w.last,
    lease = null,
    leased_until = null,
    attempts = 0,
    next_attempt_at = null,
    last_error = null,
    marked_through = d.marked_through[greatest(1, cardinality(d.marked_through) - 30):] || w.last,
    marked_at = d.marked_at[greatest(1, cardinality(d.marked_at) - 30):] || clock_timestamp()
from waiting w, subscription b
where d.subscription_id = b.id and w.last is not null
returning w.has_create
