-- The active segment with the name $1, if the role $2 may act as its owner; where there is none, the
-- retired ones.
-- runs as: set owner
-- params: name text, caller oid
-- row: ids uuid[]
select array_agg(s.id order by s.actual_end)
from @segments@ s
where s.name = $1 and pg_has_role($2, s.owner, @membership@)
  and (
      s.actual_end = 'infinity'
      or not exists (select from @segments@ a where a.name = $1 and a.actual_end = 'infinity')
  )
