-- The consumers that workers serve and that have waiting messages, with the time from which the
-- next message can be delivered.
-- runs as: set owner
-- row: id uuid, name text, role oid, at timestamptz
select
    c.id,
    c.name,
    c.role::oid as role,
    min(greatest(
        -- Times that were set while the clock was ahead count for nothing.
        case
            when head.created_at <= clock_timestamp() + interval '10 seconds'
                and (u.cron is not null or head.available_at <= clock_timestamp() + interval '10 seconds')
                then head.available_at
            else clock_timestamp()
        end,
        case
            when d.next_attempt_at > clock_timestamp() + d.retry_after + interval '10 seconds' then null
            else d.next_attempt_at
        end,
        case
            when d.leased_until > clock_timestamp() + d.leased_for + interval '10 seconds' then null
            else d.leased_until
        end
    )) as at
from @consumers@ c
join @subscriptions@ u on u.consumer_id = c.id and u.status <> 'failed'
join @deliveries@ d on d.subscription_id = u.id
cross join lateral (
    select o.available_at, o.created_at
    from @outbox@ o
    where o.subscription_id = d.subscription_id and o.id > d.delivered_through
    order by o.id
    limit 1
) head
where jsonb_typeof(c.params -> 'updater') = 'object'
group by c.id
order by at, c.name
