-- Records that the run $2 began to refresh the segment $1 at the time $3.
-- runs as: set owner
-- params: segment uuid, run uuid, began timestamptz
insert into @state@ as t (segment_id, run_id, running_since)
values ($1, $2, $3)
on conflict (segment_id) do update set run_id = $2, running_since = $3
