-- The segments whose owner $1 is a member of, retired ones too, ordered by id: sessions that lock
-- several segments lock them in the same order.
-- runs as: set owner
-- params: reader oid
-- row: id uuid, name text, owner oid
select s.id, s.name, s.owner::oid as owner
from @segments@ s
where pg_has_role($1, s.owner, @membership@)
order by s.id
