-- Records that the attempt of the run $2 to refresh the segment $1, from $3 to $4, ended with the
-- status $5, refused or failed, because of $6.
-- runs as: set owner
-- params: segment uuid, run uuid, began timestamptz, ended timestamptz, status text, message text
insert into @state@ as t (segment_id, run_id, status, message, started_at, ended_at, failures)
values ($1, $2, $5, $6, $3, $4, case $5 when 'failed' then 1 else 0 end)
on conflict (segment_id) do update set
    run_id = $2,
    running_since = null,
    status = $5,
    message = $6,
    waiting_since = null,
    started_at = $3,
    ended_at = $4,
    failures = case $5 when 'failed' then t.failures + 1 else 0 end
