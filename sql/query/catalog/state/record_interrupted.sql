-- Records and logs that the runs $2 of the segments $1 (as many, in the same order) were interrupted, where
-- they are still recorded as running: as attempts, which a successful refresh may have outlived, and, where
-- the log has no end of theirs, as entries. Rows that another session has locked are left out. The time of
-- the interruption is unknown: the entry's `processed` is the begin of the refresh, `elapsed` the time from
-- then until now.
-- runs as: set owner
-- params: segments uuid[], runs uuid[]
-- row: segment_name text
with interrupted as (
    update @attempts@ a
    set status = 'interrupted',
        message = 'the server or the worker was stopped before the refresh ended',
        waiting_since = null,
        started_at = a.running_since,
        ended_at = clock_timestamp(),
        failures = a.failures + 1,
        definition = (select max(d.version) from @definitions@ d where d.segment_id = a.segment_id),
        running_since = null
    where a.segment_id in (
        select l.segment_id
        from @attempts@ l
        join unnest($1, $2) lost (segment_id, run_id) on lost.segment_id = l.segment_id and lost.run_id = l.run_id
        where l.running_since is not null
        for update of l skip locked
    )
    returning a.segment_id, a.run_id, a.started_at, a.message
), logged as (
    insert into @log@ (processed, run_id, action, status, segment_id, segment_name, elapsed, message, params, definition)
    select i.started_at, i.run_id, 'refresh', 'interrupted', i.segment_id, coalesce(s.name, begun.segment_name),
        clock_timestamp() - i.started_at, i.message, begun.params, begun.definition
    from interrupted i
    left join @segments@ s on s.id = i.segment_id
    left join lateral (
        select l.params, l.segment_name, l.definition
        from @log@ l
        where l.segment_id = i.segment_id and l.run_id = i.run_id and l.action = 'refresh' and l.status = 'running'
        limit 1
    ) begun on true
    where not exists (
        select from @log@ l
        where l.segment_id = i.segment_id and l.run_id = i.run_id and l.action = 'refresh' and l.status <> 'running'
    )
    returning segment_id, segment_name
), counted as (
    insert into @counts@ (segment_id, status, refreshes)
    select l.segment_id, 'failed', 1 from logged l where exists (select from @segments@ s where s.id = l.segment_id)
)
select segment_name from logged
