-- A text that changes with the segment $1: with its row, and with its state, which each refresh,
-- hand-over and erasure writes.
-- runs as: set owner
-- params: segment uuid
-- row: state text
select format('%s %s', s.xmin, (select t.xmin from @state@ t where t.segment_id = s.id))
from @segments@ s
where s.id = $1
