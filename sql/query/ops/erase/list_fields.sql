-- All sets of fields that were ever handed over to the subscription $1.
-- runs as: set owner
-- params: subscription uuid
-- row: fields jsonb
select jsonb_agg(distinct l.params -> 'fields')
from @log@ l
where l.subscription_id = $1 and l.action = 'hand over' and l.params ? 'fields'
