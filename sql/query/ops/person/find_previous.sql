-- The local time of the last refresh of the segment $1 before the one that changed members at $2.
-- runs as: set owner
-- params: segment uuid, at timestamp
-- row: at timestamp
select max((l.params ->> 'at')::timestamp) as at
from @log@ l
where l.segment_id = $1 and l.status = 'ok' and l.action = 'refresh' and (l.params ->> 'at')::timestamp < $2
