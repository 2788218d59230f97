-- The parameters and figures of the last successful refresh of the segment $1, and whether members
-- were erased since.
-- runs as: set owner
-- params: segment uuid
-- row: params jsonb, coverage bigint, erased boolean
select
    l.params,
    l.coverage,
    exists (
        select from @log@ e where e.segment_id = l.segment_id and e.action = 'erase' and e.id > l.id
    ) as erased
from @log@ l
where l.segment_id = $1 and l.action = 'refresh' and l.status = 'ok'
  and (l.params @> '{"attempted": false}') is not true
order by l.id desc
limit 1
