-- The active segment with the name $1, if the role $2 may act as its owner; where there is none, the one that
-- was retired last. Its row is locked.
-- runs as: set owner
-- params: name text, caller oid
-- row: id uuid
select s.id
from @segments@ s
where s.name = $1 and pg_has_role($2, s.owner, @membership@)
order by s.actual_end desc, s.id
limit 1
for update
