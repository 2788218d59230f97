-- The next messages of the subscription $1, at most $2, with the current external id of the
-- audience.
-- runs as: set owner
-- params: subscription uuid, max_messages bigint
-- row: id bigint, segment_id uuid, audience text, external_id text, target text, operation text, part integer, parts integer, members integer, is_available boolean, payload jsonb
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
    o.available_at <= clock_timestamp()
        -- Set while the clock was ahead.
        or o.created_at > clock_timestamp() + interval '10 seconds'
        or u.cron is null and o.available_at > clock_timestamp() + interval '10 seconds' as is_available,
    case
        when o.payload #>> '{audience,external_id}' is distinct from u.external_id
            then jsonb_set(o.payload, '{audience,external_id}', coalesce(to_jsonb(u.external_id), 'null'))
        else o.payload
    end as payload
from @subscriptions@ u
join @deliveries@ d on d.subscription_id = u.id
join @outbox@ o on o.subscription_id = u.id and o.id > d.delivered_through
where u.id = $1 and u.status <> 'failed'
order by o.id
limit $2
