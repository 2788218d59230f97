-- The last status that the run $2 has logged for the segment $1.
-- runs as: set owner
-- params: segment uuid, run uuid
-- row: status text
select l.status
from @log@ l
where l.segment_id = $1 and l.run_id = $2
order by l.id desc
limit 1
