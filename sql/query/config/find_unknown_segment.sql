-- The first of the names $1 that no active segment has whose owner the role $2 is a member of.
-- runs as: set owner
-- params: names text[], caller oid
-- row: name text
select n.name
from unnest($1::text[]) with ordinality n (name, place)
where not exists (
    select from @segments@ s
    where s.name = n.name and s.actual_end = 'infinity' and pg_has_role($2, s.owner, @membership@)
)
order by n.place
limit 1
