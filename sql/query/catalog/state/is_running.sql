-- Whether the refresh of the segment $2 is recorded as running by a run other than those in $1, also if a
-- successful refresh has outlived that record.
-- runs as: set owner
-- params: alive uuid[], segment uuid
-- row: is_running boolean
select a.running_since is not null and a.run_id <> all ($1) as is_running
from @attempts@ a
where a.segment_id = $2
