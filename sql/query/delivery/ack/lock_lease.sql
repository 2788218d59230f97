-- Locks the delivery of the subscription that the message $1 belongs to, if $2 is the lease on it.
-- Returns the consumer and the message, whose segment may be gone where it is an alert. Another lease locks nothing.
-- runs as: set owner
-- params: message bigint, lease uuid
-- row: subscription_id uuid, delivered_through bigint, leased_through bigint, attempts integer, target text, consumer text, role oid, params jsonb, segment_id uuid, segment text, run_id uuid, operation text, part integer, parts integer, members integer, deletes boolean
select
    d.subscription_id,
    d.delivered_through,
    d.leased_through,
    d.attempts,
    u.target,
    c.name as consumer,
    c.role::oid as role,
    c.params,
    o.segment_id,
    coalesce(s.name, o.payload #>> '{segment,name}') as segment,
    o.run_id,
    o.operation,
    o.part,
    o.parts,
    o.members,
    -- The audience is deleted by this message, or by an earlier one that is acknowledged with it.
    exists (
        select from @outbox@ p
        where p.subscription_id = d.subscription_id and p.operation = 'delete'
          and p.id > d.delivered_through and p.id <= o.id
    ) as deletes
from @outbox@ o
join @deliveries@ d on d.subscription_id = o.subscription_id
join @subscriptions@ u on u.id = d.subscription_id
join @consumers@ c on c.id = u.consumer_id
left join @segments@ s on s.id = o.segment_id
where o.id = $1 and d.lease = $2
for update of d
