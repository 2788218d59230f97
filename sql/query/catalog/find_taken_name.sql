-- The first of the names $2 in the schemas $1 that a relation or type already has. Runs in the
-- caller's search_path.
-- runs as: caller
-- params: schemas text[], names text[]
-- row: name text
select pg_catalog.format('%I.%I', w.schema, w.name)
from rows from (pg_catalog.unnest($1), pg_catalog.unnest($2)) with ordinality as w (schema, name, place)
join pg_catalog.pg_namespace as n on n.nspname operator(pg_catalog.=) w.schema
where exists (
    select from pg_catalog.pg_class as c
    where c.relnamespace operator(pg_catalog.=) n.oid and c.relname operator(pg_catalog.=) w.name
) or exists (
    select from pg_catalog.pg_type as t
    where t.typnamespace operator(pg_catalog.=) n.oid and t.typname operator(pg_catalog.=) w.name
)
order by w.place
limit 1
