-- The segments of roles that $1 is a member of, retired ones too, in an order of their own: whoever
-- locks several takes them in it.
-- runs as: set owner
-- params: reader oid
-- row: segments uuid[]
select array_agg(s.id order by s.id)
from @segments@ s
where pg_has_role($1, s.owner, @membership@)
