-- Discards the waiting messages of the subscription $1, which a resync replaces, and clears its
-- failure. With $2 the id of an audience is forgotten that is gone by what the target system has said. Rows
-- that the consumer has locked are left alone: then what waits is delivered before. No row: nothing was
-- discarded. `begins`: the audience has to be created.
-- runs as: set owner
-- params: subscription uuid, is_requested boolean
-- row: begins boolean
with cursor as (
    select d.subscription_id, d.delivered_through, $2 and coalesce(d.progress -> 'gone' = 'true', false) as is_gone
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
    set status = 'queued', external_id = case when not k.is_gone then u.external_id end
    from subscription b, cursor k
    where u.id = b.id and (u.status = 'failed' or k.is_gone)
)
update @deliveries@ d
set delivered_through = greatest(d.delivered_through, w.last),
    lease = null,
    leased_until = null,
    attempts = 0,
    next_attempt_at = null,
    last_error = null,
    failures_in_a_row = 0,
    progress = null,
    marked_through = d.marked_through[greatest(1, cardinality(d.marked_through) - 30):]
        || coalesce(w.last, d.delivered_through),
    marked_at = d.marked_at[greatest(1, cardinality(d.marked_at) - 30):] || clock_timestamp()
from waiting w, subscription b, cursor k
where d.subscription_id = b.id and (w.last is not null or k.is_gone)
returning coalesce(w.has_create, false) or k.is_gone as begins
