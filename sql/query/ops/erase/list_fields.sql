-- All sets of fields that were ever handed over to the subscription $1.
-- runs as: set owner
-- params: subscription uuid
-- row: fields jsonb
select h.past_fields || case when h.fields is null then '[]' else jsonb_build_array(h.fields) end
from @handovers@ h
where h.subscription_id = $1
