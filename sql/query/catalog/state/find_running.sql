-- The segments whose refresh is recorded as running by a run other than those in $1, also if a successful
-- refresh has outlived that record.
-- runs as: set owner
-- params: alive uuid[]
-- row: segments uuid[]
select array_agg(a.segment_id order by a.segment_id)
from @attempts@ a
where a.running_since is not null and a.run_id <> all ($1)
