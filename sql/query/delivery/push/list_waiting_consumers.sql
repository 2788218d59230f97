-- The consumers that workers serve and that have waiting messages, with the time from which the
-- next message can be delivered.
-- runs as: set owner
-- row: id uuid, name text, role oid, at timestamptz
select
    c.id,
    c.name,
    c.role::oid as role,
    min(greatest(head.available_at, d.next_attempt_at, d.leased_until)) as at
from @consumers@ c
join @subscriptions@ u on u.consumer_id = c.id and u.status <> 'failed'
join @deliveries@ d on d.subscription_id = u.id
cross join lateral (
    select o.available_at
    from @outbox@ o
    where o.subscription_id = d.subscription_id and o.id > d.delivered_through
    order by o.id
    limit 1
) head
where jsonb_typeof(c.params -> 'updater') = 'object'
group by c.id
order by at, c.name
