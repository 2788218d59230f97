-- Logs that the run $2 of the segment $1 was interrupted, where the log has its begin and not its end, and
-- records that it runs no more, so that its end is not written again. The time of the interruption is
-- unknown: the entry's `processed` is the begin of the refresh, `elapsed` the time from then until now.
-- runs as: set owner
-- params: segment uuid, run uuid
with closed as (
    update @attempts@ a
    set running_since = null
    where a.segment_id = $1 and a.run_id = $2 and a.running_since is not null
), logged as (
    insert into @log@ (processed, run_id, action, status, segment_id, segment_name, elapsed, message, params, definition)
    select l.processed, l.run_id, 'refresh', 'interrupted', l.segment_id, l.segment_name,
        clock_timestamp() - l.processed, 'the server or the worker was stopped before the refresh ended', l.params, l.definition
    from @log@ l
    where l.segment_id = $1 and l.run_id = $2 and l.action = 'refresh' and l.status = 'running'
      and not exists (
        select from @log@ e
        where e.segment_id = l.segment_id and e.run_id = l.run_id and e.action = 'refresh' and e.status <> 'running'
      )
    returning segment_id
)
insert into @counts@ (segment_id, status, refreshes)
select l.segment_id, 'failed', 1 from logged l
