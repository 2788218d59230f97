-- The members in the messages of the subscription $1 from $2 up to and including $3, in their order.
-- runs as: set owner
-- params: subscription uuid, first bigint, last bigint
-- row: message bigint, place bigint, is_removal boolean, is_erasure boolean, member jsonb
select o.id as message, m.place, o.operation = 'remove' as is_removal, o.is_erasure, m.member
from @outbox@ o
cross join lateral jsonb_array_elements(o.payload -> 'members') with ordinality m (member, place)
where o.subscription_id = $1 and o.id between $2 and $3
