-- The sets of fields that were ever handed over, of each subscription to the segment $1. A
-- subscription that was never handed over has none.
-- runs as: set owner
-- params: segment uuid
-- row: subscription_id uuid, fields jsonb
select
    u.id as subscription_id,
    h.past_fields || case when h.fields is null then '[]' else jsonb_build_array(h.fields) end as fields
from @subscriptions@ u
left join @handovers@ h on h.subscription_id = u.id
where u.segment_id = $1
