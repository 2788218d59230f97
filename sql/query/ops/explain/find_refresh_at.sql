-- The last attempt to refresh the segment $1 that the log has, as it was at the time $2.
-- runs as: set owner
-- params: segment uuid, at timestamptz
-- row: status text, since timestamptz, detail text
select l.status, l.processed as since, coalesce(l.message, 'run ' || l.run_id) as detail
from @log@ l
where l.segment_id = $1 and l.action = 'refresh' and l.processed <= $2 and l.status <> 'skipped'
order by l.id desc
limit 1
