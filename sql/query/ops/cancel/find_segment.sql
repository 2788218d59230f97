-- The active segment with the name $1, if $2 is a member of its owner.
-- runs as: set owner
-- params: name text, caller oid
-- row: id uuid
select s.id
from @segments@ s
where s.name = $1 and s.actual_end = 'infinity' and pg_has_role($2, s.owner, @membership@)
