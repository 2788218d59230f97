-- The segments whose owner $1 is a member of, retired ones too, ordered by id: sessions that lock
-- several segments lock them in the same order.
-- runs as: set owner
-- params: reader oid
-- row: segments uuid[]
select array_agg(s.id order by s.id)
from @segments@ s
where pg_has_role($1, s.owner, @membership@)
