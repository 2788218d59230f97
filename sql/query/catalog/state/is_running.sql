-- Whether the refresh of the segment $2 is recorded as running by a run other than those in $1.
-- runs as: set owner
-- params: alive uuid[], segment uuid
-- row: is_running boolean
select a.running_since is not null
    and a.refreshes = coalesce((select t.refreshes from @state@ t where t.segment_id = $2), 0)
    and a.run_id <> all ($1) as is_running
from @attempts@ a
where a.segment_id = $2
