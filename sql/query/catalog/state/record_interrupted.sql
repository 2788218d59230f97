-- Records, as attempts, that the running refreshes of the segments $1 were interrupted. Those of the
-- runs $2 are left out, and rows that another session has locked.
-- runs as: set owner
-- params: segments uuid[], alive uuid[]
update @attempts@ a
set status = 'interrupted',
    message = 'the server or the worker was stopped before the refresh ended',
    waiting_since = null,
    started_at = a.running_since,
    ended_at = clock_timestamp(),
    failures = a.failures + 1,
    running_since = null
where a.segment_id in (
    select l.segment_id
    from @attempts@ l
    where l.segment_id = any ($1) and l.running_since is not null and l.run_id <> all ($2)
      -- Asked again: the list may have been read in an older snapshot.
      and l.refreshes = coalesce((select t.refreshes from @state@ t where t.segment_id = l.segment_id), 0)
    for update skip locked
)
