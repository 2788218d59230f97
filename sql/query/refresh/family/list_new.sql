-- Those of the names $1 that no segment has or had.
-- runs as: set owner
-- params: names text[]
-- row: name text
select n.name
from unnest($1) with ordinality n (name, number)
where n.name is not null and not exists (select from @segments@ s where s.name = n.name)
order by n.number
