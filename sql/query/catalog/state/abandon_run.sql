-- Takes back that the run $2 refreshes the segment $1: it found the segment locked. A row that
-- another session has locked is left to that session.
-- runs as: set owner
-- params: segment uuid, run uuid
update @attempts@ a
set running_since = null
where a.segment_id in (
    select l.segment_id
    from @attempts@ l
    where l.segment_id = $1 and l.run_id = $2 and l.running_since is not null
    for update skip locked
)
