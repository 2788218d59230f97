-- The audiences that the consumer $1 has as far as it is known, as a JSON array: what it is asked about.
-- runs as: set owner
-- params: consumer uuid
-- row: audiences jsonb
select coalesce(
    jsonb_agg(
        jsonb_build_object('subscription_id', u.id, 'name', d.audience, 'target', u.target, 'external_id', u.external_id)
        order by u.target, u.id
    ),
    '[]'
) as audiences
from @subscriptions@ u
join @handovers@ h on h.subscription_id = u.id
join @deliveries@ d on d.subscription_id = u.id
where u.consumer_id = $1 and h.has_audience and (u.external_id is not null or d.audience is not null)
