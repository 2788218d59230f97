-- Records that the run $2 has refreshed the segment $1, from $3 to $4: the figures, the local time
-- of the change, and the checkpoint.
-- runs as: set owner
-- params: segment uuid, run uuid, began timestamptz, ended timestamptz, coverage bigint, added bigint, removed bigint, changed bigint, changed_at timestamp, checkpoint jsonb
insert into @state@ as t (
    segment_id, run_id, status, started_at, ended_at, coverage, added, removed, changed, members,
    changed_at, checkpoint, version
)
values ($1, $2, 'ok', $3, $4, $5, $6, $7, $8, $5, $9, $10, 1)
on conflict (segment_id) do update set
    run_id = $2,
    running_since = null,
    status = 'ok',
    message = null,
    waiting_since = null,
    started_at = $3,
    ended_at = $4,
    failures = 0,
    coverage = $5,
    added = $6,
    removed = $7,
    changed = $8,
    members = $5,
    changed_at = $9,
    checkpoint = $10,
    version = t.version + 1
