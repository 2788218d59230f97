-- Logs that the running refreshes of the segments $1 were interrupted. Those of the runs $2 are left
-- out, and those whose end is in the log. The time of the interruption is unknown: the entry's
-- `processed` is the begin of the refresh, `elapsed` the time from then until now.
-- runs as: set owner
-- params: segments uuid[], alive uuid[]
-- row: segment_name text
insert into @log@ (processed, run_id, action, status, segment_id, segment_name, elapsed, message, params)
select a.running_since, a.run_id, 'refresh', 'interrupted', a.segment_id, coalesce(s.name, begun.segment_name),
    clock_timestamp() - a.running_since, 'the server or the worker was stopped before the refresh ended',
    begun.params
from @attempts@ a
left join @segments@ s on s.id = a.segment_id
left join lateral (
    select l.params, l.segment_name
    from @log@ l
    where l.segment_id = a.segment_id and l.run_id = a.run_id and l.action = 'refresh' and l.status = 'running'
    limit 1
) begun on true
where a.segment_id = any ($1) and a.running_since is not null and a.run_id <> all ($2)
  -- Asked again: the list may have been read in an older snapshot.
  and a.refreshes = coalesce((select t.refreshes from @state@ t where t.segment_id = a.segment_id), 0)
  and not exists (
    select from @log@ l
    where l.segment_id = a.segment_id and l.run_id = a.run_id and l.action = 'refresh' and l.status <> 'running'
  )
returning segment_name
