-- What tells one state of the segment $1 from another: its last refresh that succeeded, and the
-- version of its row.
select format('%s %s', s.xmin, (
    select max(l.id)
    from @log@ l
    where l.segment_id = s.id and l.action = 'refresh' and l.status = 'ok'
))
from @segments@ s
where s.id = $1
