-- Derives the states of segments from the log, where version 1 of the definition kept them: the last refresh, and
-- the figures of all that the log still has.
-- runs as: set owner
insert into @state@ (
    segment_id, run_id, started_at, ended_at, coverage, added, removed, changed, members, changed_at,
    checkpoint, refreshes, version, total_received, total_added, total_removed, total_changed, total_elapsed
)
select
    s.id,
    good.run_id,
    good.processed,
    good.processed + coalesce(good.elapsed, '0'),
    good.coverage,
    good.added,
    good.removed,
    good.changed,
    case when not exists (
        select from @log@ e where e.segment_id = s.id and e.action = 'erase' and e.id > good.id
    ) then good.coverage end,
    (good.params ->> 'at')::timestamp,
    case when good.params ? 'incremental' then
        (good.params -> 'incremental') - array['pass', 'ids', 'reason']
            || jsonb_build_object('refresher', good.params -> 'refresh_params')
    end,
    figures.refreshes,
    1,
    figures.received,
    figures.added,
    figures.removed,
    figures.changed,
    figures.elapsed
from @segments@ s
cross join lateral (
    select l.*
    from @log@ l
    where l.segment_id = s.id and l.action = 'refresh' and l.status = 'ok'
      and (l.params @> '{"attempted": false}') is not true
    order by l.id desc
    limit 1
) good
cross join lateral (
    select
        count(*) as refreshes,
        coalesce(sum(l.num_received), 0) as received,
        coalesce(sum(l.added), 0) as added,
        coalesce(sum(l.removed), 0) as removed,
        coalesce(sum(l.changed), 0) as changed,
        coalesce(sum(l.elapsed), '0') as elapsed
    from @log@ l
    where l.segment_id = s.id and l.action = 'refresh' and l.status = 'ok'
      and (l.params @> '{"attempted": false}') is not true
) figures
