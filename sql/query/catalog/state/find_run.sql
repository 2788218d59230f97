-- The segment $1 and the run that is recorded as refreshing it, if there is one, also if a successful refresh
-- has outlived that record.
-- runs as: set owner
-- params: segment uuid
-- row: segment_id uuid, run_id uuid
select a.segment_id, a.run_id
from @attempts@ a
where a.segment_id = $1 and a.running_since is not null
