-- The subscription $1, with the roles that may administer it: the segment's owner and the
-- consumer's role.
-- runs as: set owner
-- params: subscription uuid
-- row: target text, segment_id uuid, segment text, owner oid, consumer_id uuid, consumer text, role oid, params jsonb
select
    u.target,
    u.segment_id,
    s.name as segment,
    s.owner::oid as owner,
    c.id as consumer_id,
    c.name as consumer,
    c.role::oid as role,
    c.params
from @subscriptions@ u
join @segments@ s on s.id = u.segment_id
join @consumers@ c on c.id = u.consumer_id
where u.id = $1
