-- The segments whose refresh is recorded as running by a run other than those in $1.
-- runs as: set owner
-- params: alive uuid[]
-- row: segments uuid[]
select array_agg(a.segment_id order by a.segment_id)
from @attempts@ a
left join @state@ t on t.segment_id = a.segment_id
where a.running_since is not null and a.refreshes = coalesce(t.refreshes, 0)
  and a.run_id <> all ($1)
