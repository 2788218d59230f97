-- The role of the consumer to which the message $2 was delivered under the lease $1; no row if it
-- was not delivered under this lease. The message itself may be deleted.
-- runs as: set owner
-- params: lease uuid, message bigint
-- row: role oid
select c.role::oid
from @deliveries@ d
join @subscriptions@ u on u.id = d.subscription_id
join @consumers@ c on c.id = u.consumer_id
where d.lease = $1 and $2 <= d.delivered_through
