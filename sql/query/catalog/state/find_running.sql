-- The segments whose refresh is recorded as running, each with the run, also if a successful refresh has
-- outlived that record.
-- runs as: set owner
-- row: segment_id uuid, run_id uuid
select a.segment_id, a.run_id
from @attempts@ a
where a.running_since is not null
order by a.segment_id
