-- The subscriptions of the consumer $1 that have a message to claim now, the oldest message first.
-- Times that were set while the clock was ahead count for nothing: they lie further in the future than
-- the delay that was asked for. One whose next message is held
-- back is left out.
-- runs as: set owner
-- params: consumer uuid
-- row: subscriptions uuid[]
-- @is_held_back@: delivery/is_held_back, e.g. false
select array_agg(h.subscription_id order by h.id)
from (
    select d.subscription_id, head.id
    from @subscriptions@ u
    join @deliveries@ d on d.subscription_id = u.id
    cross join lateral (
        select o.id, o.available_at, o.created_at, o.operation, o.audience
        from @outbox@ o
        where o.subscription_id = d.subscription_id and o.id > d.delivered_through
        order by o.id
        limit 1
    ) head
    where u.consumer_id = $1 and u.status <> 'failed'
      and (
          head.available_at <= clock_timestamp()
          or head.created_at > clock_timestamp() + interval '10 seconds'
          or u.cron is null and head.available_at > clock_timestamp() + interval '10 seconds'
      )
      and (
          d.leased_until is null or d.leased_until <= clock_timestamp()
          or d.leased_until > clock_timestamp() + d.leased_for + interval '10 seconds'
      )
      and (
          d.next_attempt_at is null or d.next_attempt_at <= clock_timestamp()
          or d.next_attempt_at > clock_timestamp() + d.retry_after + interval '10 seconds'
      )
      and not (@is_held_back@)
) h
