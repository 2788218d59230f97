-- How the last refresh of $1 ended.
select l.status
from @log@ l
where l.segment_id = $1 and l.action = 'refresh' and not l.params @> '{"attempted": false}'
order by l.id desc
limit 1
