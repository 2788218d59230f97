-- Derives the states of segments from the log, where version 1 of the definition kept them.
-- runs as: set owner
insert into @state@ (
    segment_id, run_id, running_since, status, message, waiting_since, started_at, ended_at, failures,
    coverage, added, removed, changed, members, changed_at, checkpoint, version
)
select
    s.id,
    coalesce(running.run_id, outcome.run_id),
    running.processed,
    outcome.status,
    case when outcome.status <> 'ok' then coalesce(outcome.error ->> 'message', outcome.message) end,
    case when outcome.status = 'waiting' then outcome.processed end,
    attempt.processed,
    attempt.processed + coalesce(attempt.elapsed, '0'),
    case when attempt.status in ('failed', 'interrupted') then (
        select count(*)
        from @log@ l
        where l.segment_id = s.id and l.action = 'refresh' and l.status in ('failed', 'interrupted')
          and (l.params @> '{"attempted": false}') is not true
          and l.id > coalesce(settled.id, 0)
    ) else 0 end,
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
    1
from @segments@ s
left join lateral (
    select l.*
    from @log@ l
    where l.segment_id = s.id and l.action = 'refresh' and l.status in ('ok', 'waiting', 'refused', 'failed', 'interrupted')
      and (l.params @> '{"attempted": false}') is not true
    order by l.id desc
    limit 1
) outcome on true
left join lateral (
    select l.*
    from @log@ l
    where l.segment_id = s.id and l.action = 'refresh' and l.status in ('ok', 'refused', 'failed', 'interrupted')
      and (l.params @> '{"attempted": false}') is not true
    order by l.id desc
    limit 1
) attempt on true
left join lateral (
    select l.id
    from @log@ l
    where l.segment_id = s.id and l.action = 'refresh' and l.status in ('ok', 'refused')
      and (l.params @> '{"attempted": false}') is not true
    order by l.id desc
    limit 1
) settled on true
left join lateral (
    select l.*
    from @log@ l
    where l.segment_id = s.id and l.action = 'refresh' and l.status = 'ok'
      and (l.params @> '{"attempted": false}') is not true
    order by l.id desc
    limit 1
) good on true
left join lateral (
    select l.run_id, l.processed
    from @log@ l
    where l.segment_id = s.id and l.action = 'refresh' and l.status = 'running'
      and not exists (
          select from @log@ later
          where later.segment_id = s.id and later.run_id = l.run_id and later.id > l.id
      )
    order by l.id desc
    limit 1
) running on true
where outcome.id is not null or running.run_id is not null
