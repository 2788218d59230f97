-- The active segment $1, as far as the caller may see it, and its owner.
-- runs as: caller
-- params: segment text
-- row: id uuid, owner oid
select s.id, s.owner::pg_catalog.oid as owner
from @segments@ s
where s.name operator(pg_catalog.=) $1 and s.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamptz
