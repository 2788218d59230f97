-- Derives from the log the attempts to refresh each segment since its last successful refresh.
-- runs as: set owner
insert into @attempts@ (
    segment_id, refreshes, run_id, running_since, status, message, waiting_since, started_at, ended_at,
    failures
)
select
    s.id,
    coalesce(t.refreshes, 0),
    coalesce(running.run_id, outcome.run_id),
    running.processed,
    outcome.status,
    coalesce(outcome.error ->> 'message', outcome.message),
    case when outcome.status = 'waiting' then outcome.processed end,
    attempt.processed,
    attempt.processed + coalesce(attempt.elapsed, '0'),
    case when attempt.status in ('failed', 'interrupted') then (
        select count(*)
        from @log@ l
        where l.segment_id = s.id and l.action = 'refresh' and l.status in ('failed', 'interrupted')
          and (l.params @> '{"attempted": false}') is not true
          and l.id > coalesce(refused.id, good.id, 0)
    ) else 0 end
from @segments@ s
left join @state@ t on t.segment_id = s.id
left join lateral (
    select max(l.id) as id
    from @log@ l
    where l.segment_id = s.id and l.action = 'refresh' and l.status = 'ok'
      and (l.params @> '{"attempted": false}') is not true
) good on true
left join lateral (
    select max(l.id) as id
    from @log@ l
    where l.segment_id = s.id and l.action = 'refresh' and l.status = 'refused' and l.id > coalesce(good.id, 0)
      and (l.params @> '{"attempted": false}') is not true
) refused on true
left join lateral (
    select l.*
    from @log@ l
    where l.segment_id = s.id and l.action = 'refresh' and l.id > coalesce(good.id, 0)
      and l.status in ('waiting', 'refused', 'failed', 'interrupted')
      and (l.params @> '{"attempted": false}') is not true
    order by l.id desc
    limit 1
) outcome on true
left join lateral (
    select l.*
    from @log@ l
    where l.segment_id = s.id and l.action = 'refresh' and l.id > coalesce(good.id, 0)
      and l.status in ('refused', 'failed', 'interrupted')
      and (l.params @> '{"attempted": false}') is not true
    order by l.id desc
    limit 1
) attempt on true
left join lateral (
    select l.run_id, l.processed
    from @log@ l
    where l.segment_id = s.id and l.action = 'refresh' and l.status = 'running' and l.id > coalesce(good.id, 0)
      and not exists (
          select from @log@ later
          where later.segment_id = s.id and later.run_id = l.run_id and later.id > l.id
      )
    order by l.id desc
    limit 1
) running on true
where outcome.id is not null or running.run_id is not null
