-- A text that changes with the segment $1: the version of its row, and the last successful refresh,
-- hand-over or erasure in the log.
-- runs as: set owner
-- params: segment uuid
-- row: state text
select format('%s %s', s.xmin, (
    select max(l.id)
    from @log@ l
    where l.segment_id = s.id and l.action in ('refresh', 'hand over', 'erase') and l.status = 'ok'
))
from @segments@ s
where s.id = $1
