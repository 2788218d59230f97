-- The subscription $1, with the roles that may administer it: the segment's owner and the
-- consumer's role. That of a rule of alerts has no segment, and the owner of the rule.
-- runs as: set owner
-- params: subscription uuid
-- row: target text, segment_id uuid, segment text, owner oid, consumer_id uuid, consumer text, role oid, params jsonb
select
    u.target,
    u.segment_id,
    s.name as segment,
    coalesce(s.owner, a.owner)::oid as owner,
    c.id as consumer_id,
    c.name as consumer,
    c.role::oid as role,
    c.params
from @subscriptions@ u
left join @segments@ s on s.id = u.segment_id
left join @alerts@ a on a.id = u.id
join @consumers@ c on c.id = u.consumer_id
where u.id = $1
