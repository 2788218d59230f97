-- A text that changes with the segment $1: with its row, with its state, which each refresh, hand-over
-- and erasure writes, and with the people who are kept out.
-- runs as: set owner
-- params: segment uuid
-- row: state text
select format(
    '%s %s %s',
    s.xmin,
    (select t.xmin from @state@ t where t.segment_id = s.id),
    (select (count(*), count(k.hash)) from @kept_out@ k)
)
from @segments@ s
where s.id = $1
