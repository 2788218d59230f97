-- The first message of the subscription $1 after the message $2 that waits, with the current external id of
-- the audience.
-- runs as: set owner
-- params: subscription uuid, after bigint
-- row: id bigint, segment_id uuid, audience text, external_id text, target text, operation text, part integer, parts integer, members integer, payload jsonb
select
    o.id,
    o.segment_id,
    o.payload #>> '{audience,name}' as audience,
    u.external_id,
    u.target,
    o.operation,
    o.part,
    o.parts,
    o.members,
    jsonb_set(o.payload, '{audience,external_id}', coalesce(to_jsonb(u.external_id), 'null')) as payload
from @subscriptions@ u
join @deliveries@ d on d.subscription_id = u.id
join @outbox@ o on o.subscription_id = u.id and o.id > greatest(d.delivered_through, $2)
where u.id = $1
order by o.id
limit 1
