-- What tells one state of the segment $1 from another: what was last refreshed, handed over or erased
-- with success, and the version of its row.
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
