-- How many retired consumers have the name $1, of those that the caller may see.
-- runs as: caller
-- params: name text
-- row: retired bigint
select pg_catalog.count(*) as retired
from @consumers@ c
where c.name operator(pg_catalog.=) $1 and c.actual_end operator(pg_catalog.<>) 'infinity'::pg_catalog.timestamptz
