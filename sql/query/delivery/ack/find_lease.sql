-- The consumer that holds the lease $2 on the message $1; no row if there is no such lease.
-- runs as: set owner
-- params: message bigint, lease uuid
-- row: consumer text, role oid
select c.name as consumer, c.role::oid as role
from @outbox@ o
join @deliveries@ d on d.subscription_id = o.subscription_id
join @subscriptions@ u on u.id = d.subscription_id
join @consumers@ c on c.id = u.consumer_id
where o.id = $1 and d.lease = $2
