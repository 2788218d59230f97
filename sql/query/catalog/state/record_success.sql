-- Records that the run $2 has refreshed the segment $1, from $3 to $4: the figures, the local time
-- of the change, the checkpoint, and the sources whose load times lie in the future. $11 is the zone of
-- the members' times if none is recorded, $13 what the segment's table holds now, $16 the segments whose
-- members it leaves out, as it has seen them, $17 the version of its definition, $18 what its
-- refresher hashes to (null: a one-off query), $19 the rows that it returned. With $15, rows were changed by hand before, or put into the
-- table before the first refresh: members may have been gained and lost that no figure counts. The attempts before count no longer; that of the run
-- itself runs no more, unless another session has locked its row.
-- runs as: set owner
-- params: segment uuid, run uuid, began timestamptz, ended timestamptz, coverage bigint, added bigint, removed bigint, changed bigint, changed_at timestamp, checkpoint jsonb, timezone text, sources_ahead text[], content jsonb, excluded bigint, is_edited boolean, lists jsonb, definition integer, ran_with text, received bigint
with own as (
    update @attempts@ a
    set running_since = null
    where a.segment_id in (
        select l.segment_id
        from @attempts@ l
        where l.segment_id = $1 and l.run_id = $2 and l.running_since is not null
        for update skip locked
    )
)
insert into @state@ as t (
    segment_id, run_id, started_at, ended_at, coverage, added, removed, changed, members, changed_at,
    checkpoint, refreshes, version, timezone, sources_ahead, content, excluded, lists, definition,
    ran_with,
    gains, losses, lost_at,
    total_received, total_added, total_removed, total_changed, total_excluded, total_elapsed
)
values (
    $1, $2, $3, $4, $5, $6, $7, $8, $5, $9, $10, 1, 1, $11, $12, $13, $14, $16, $17, $18,
    case when $6 + $8 > 0 or $15 then 1 else 0 end,
    case when $7 + $8 > 0 or $15 then 1 else 0 end,
    case when $7 + $8 > 0 or $15 then $4 end,
    $19, $6, $7, $8, $14, $4 - $3
)
on conflict (segment_id) do update set
    run_id = $2,
    started_at = $3,
    ended_at = $4,
    coverage = $5,
    added = $6,
    removed = $7,
    changed = $8,
    members = $5,
    changed_at = $9,
    checkpoint = $10,
    content = $13,
    refreshes = t.refreshes + 1,
    version = t.version + 1,
    timezone = coalesce(t.timezone, $11),
    sources_ahead = $12,
    excluded = $14,
    lists = $16,
    definition = $17,
    ran_with = coalesce($18, t.ran_with),
    gains = t.gains + excluded.gains,
    losses = t.losses + excluded.losses,
    lost_at = coalesce(excluded.lost_at, t.lost_at),
    total_received = t.total_received + $19,
    total_added = t.total_added + $6,
    total_removed = t.total_removed + $7,
    total_changed = t.total_changed + $8,
    total_excluded = t.total_excluded + $14,
    total_elapsed = t.total_elapsed + ($4 - $3)
