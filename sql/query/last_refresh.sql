-- The log entry of the last refresh of $1 that succeeded.
select max(l.id)
from @log@ l
where l.segment_id = $1 and l.action = 'refresh' and l.status = 'ok'
