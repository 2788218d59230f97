-- The schema and the name of the mart, neither of them quoted.
-- runs as: extension owner
-- row: name text[]
select array[n.nspname::text, c.relname::text]
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where c.oid = '@text:mart@'::regclass
