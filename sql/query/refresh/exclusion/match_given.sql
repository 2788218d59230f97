-- Those of the ids $2 that the segment $1, whose members are left out, has too. LIMIT forces one lookup for
-- each id.
-- runs as: table owner
-- params: list uuid, ids text[]
-- row: ids text[]
-- @table@: the table of the list, e.g. public.vip
-- @collation@: the collation of the column id, e.g. pg_catalog."default"
select pg_catalog.array_agg(u.id)
from pg_catalog.unnest($2) as u (id)
cross join lateral (
    select
    from only @table@ as t
    where t.segment_id operator(pg_catalog.=) $1
      and t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp
      and t.id operator(pg_catalog.=) u.id::pg_catalog."varchar" collate @collation@
    limit 1
) as m
