-- Those of the names $1 that no active consumer has which the role sees.
-- runs as: segment owner
-- params: names text[]
-- row: name text
select distinct n.name
from pg_catalog.unnest($1) n (name)
where not exists (
    select from @consumers@ c
    where c.name operator(pg_catalog.=) n.name and c.actual_end operator(pg_catalog.=) 'infinity'
)
order by n.name
