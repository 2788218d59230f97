-- The messages of the subscription $1 that wait, in order, with the current external id of the audience.
-- runs as: set owner
-- params: subscription uuid
-- row: id bigint, audience text, external_id text, target text, operation text, part integer, parts integer, members integer, payload jsonb
select
    o.id,
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
join @outbox@ o on o.subscription_id = u.id and o.id > d.delivered_through
where u.id = $1
order by o.id
