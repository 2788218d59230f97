-- The segments whose refresh is recorded as running by a run other than those in $1. Where $2 is
-- given, only this segment is considered.
-- runs as: set owner
-- params: alive uuid[], segment uuid
-- row: segments uuid[]
select array_agg(t.segment_id order by t.segment_id)
from @state@ t
where t.running_since is not null and t.run_id <> all ($1) and ($2::uuid is null or t.segment_id = $2)
