-- The status of the last refresh of $1 that was attempted.
-- runs as: set owner
-- params: segment uuid
-- row: status text
select l.status
from @log@ l
where l.segment_id = $1 and l.action = 'refresh' and (l.params @> '{"attempted": false}') is not true
order by l.id desc
limit 1
