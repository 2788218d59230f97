-- The figures of the last $2 successful refreshes of the segment $1.
-- runs as: set owner
-- params: segment uuid, refreshes bigint
-- row: coverage bigint, added bigint, removed bigint, changed bigint
select coverage, added, removed, changed
from @log@
where segment_id = $1 and action = 'refresh' and status = 'ok'
order by id desc
limit $2
