-- The figures of the active segments since the last reset of each: of those whose owner $1 is a member of, or of
-- all if it is null; of the one with the name $2, if it is given. What is last or going on does not depend on
-- resets. With $3, totals are the figures since the segment was created, which a reset records.
-- runs as: set owner
-- params: reader oid, name text, with_totals boolean
-- row: id uuid, segment text, ok bigint, failed bigint, refused bigint, waiting bigint, skipped bigint, rows_received bigint, added bigint, removed bigint, changed bigint, excluded bigint, total_elapsed interval, mean_elapsed interval, last_elapsed interval, messages_written bigint, failures_in_a_row bigint, staleness interval, stats_reset timestamptz, members bigint, totals text
select
    s.id,
    s.name as segment,
    f.ok,
    f.failed,
    f.refused,
    f.waiting,
    f.skipped,
    f.rows_received,
    f.added,
    f.removed,
    f.changed,
    f.excluded,
    f.total_elapsed,
    case when f.ok > 0 then f.total_elapsed / f.ok end as mean_elapsed,
    case when f.ok > 0 then t.ended_at - t.started_at end as last_elapsed,
    f.messages_written,
    coalesce(a.failures, 0)::bigint as failures_in_a_row,
    case when t.refreshes > 0 then greatest(clock_timestamp() - t.started_at, interval '0') end as staleness,
    r.reset_at as stats_reset,
    case when t.refreshes > 0 then t.coverage end as members,
    case when $3 then jsonb_build_object(
        'ok', t.refreshes, 'failed', c.failed, 'refused', c.refused, 'waiting', c.waiting, 'skipped', c.skipped,
        'rows_received', t.total_received, 'added', t.total_added, 'removed', t.total_removed,
        'changed', t.total_changed, 'excluded', t.total_excluded, 'total_elapsed', t.total_elapsed,
        'messages_written', h.messages_written
    )::text end as totals
from @segments@ s
left join @state@ t on t.segment_id = s.id
left join @attempts@ a on a.segment_id = s.id and a.refreshes = coalesce(t.refreshes, 0)
left join (
    select
        n.segment_id,
        sum(n.refreshes) filter (where n.status = 'failed')::bigint as failed,
        sum(n.refreshes) filter (where n.status = 'refused')::bigint as refused,
        sum(n.refreshes) filter (where n.status = 'waiting')::bigint as waiting,
        sum(n.refreshes) filter (where n.status = 'skipped')::bigint as skipped
    from @counts@ n
    where n.status is not null
    group by n.segment_id
) c on c.segment_id = s.id
left join (
    select u.segment_id, sum(k.messages_written)::bigint as messages_written
    from @handovers@ k
    join @subscriptions@ u on u.id = k.subscription_id
    group by u.segment_id
) h on h.segment_id = s.id
left join (
    select distinct on (n.segment_id) n.segment_id, n.reset_at, n.base
    from @counts@ n
    where n.status is null and n.subscription_id is null
    order by n.segment_id, n.reset_at desc, n.id
) r on r.segment_id = s.id
left join lateral jsonb_to_record(r.base) b (
    ok bigint, failed bigint, refused bigint, waiting bigint, skipped bigint, rows_received bigint, added bigint,
    removed bigint, changed bigint, excluded bigint, total_elapsed interval, messages_written bigint
) on true
cross join lateral (
    select
        coalesce(t.refreshes, 0) - coalesce(b.ok, 0) as ok,
        coalesce(c.failed, 0) - coalesce(b.failed, 0) as failed,
        coalesce(c.refused, 0) - coalesce(b.refused, 0) as refused,
        coalesce(c.waiting, 0) - coalesce(b.waiting, 0) as waiting,
        coalesce(c.skipped, 0) - coalesce(b.skipped, 0) as skipped,
        coalesce(t.total_received, 0) - coalesce(b.rows_received, 0) as rows_received,
        coalesce(t.total_added, 0) - coalesce(b.added, 0) as added,
        coalesce(t.total_removed, 0) - coalesce(b.removed, 0) as removed,
        coalesce(t.total_changed, 0) - coalesce(b.changed, 0) as changed,
        coalesce(t.total_excluded, 0) - coalesce(b.excluded, 0) as excluded,
        coalesce(t.total_elapsed, '0') - coalesce(b.total_elapsed, '0') as total_elapsed,
        coalesce(h.messages_written, 0) - coalesce(b.messages_written, 0) as messages_written
) f
where s.actual_end = 'infinity'
  and ($1 is null or pg_has_role($1, s.owner, @membership@))
  and ($2 is null or s.name = $2)
order by s.name collate "C"
