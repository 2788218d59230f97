-- The state of the segment $1.
-- runs as: set owner
-- params: segment uuid
-- row: run_id uuid, is_running boolean, status text
select t.run_id, t.running_since is not null as is_running, t.status
from @state@ t
where t.segment_id = $1
