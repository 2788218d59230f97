-- Records that the segment $1 waits for its sources, as the run $2 found at the time $3. $4 names
-- the sources.
-- runs as: set owner
-- params: segment uuid, run uuid, began timestamptz, message text
insert into @state@ as t (segment_id, run_id, status, message, waiting_since)
values ($1, $2, 'waiting', $4, $3)
on conflict (segment_id) do update set
    run_id = $2,
    running_since = null,
    status = 'waiting',
    message = $4,
    waiting_since = coalesce(t.waiting_since, $3)
