-- The waiting messages of the subscription $1: their number, the first and the last id, and the
-- number of messages that create the audience.
-- runs as: set owner
-- params: subscription uuid
-- row: counts bigint[]
select array[count(*), min(o.id), max(o.id), count(*) filter (where o.operation = 'create')]
from @outbox@ o
join @deliveries@ d on d.subscription_id = o.subscription_id
where o.subscription_id = $1 and o.id > d.delivered_through
