-- How far the run $2 has come with the segment $1.
select l.status
from @log@ l
where l.segment_id = $1 and l.run_id = $2
order by l.id desc
limit 1
