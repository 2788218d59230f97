-- The ids of the members of the segment $1.
-- runs as: segment owner, table owner
-- params: segment uuid
-- row: ids text[]
-- @table@: the segment table, e.g. public.vip
select pg_catalog.array_agg((t.id)::pg_catalog.text)
from only @table@ as t
where t.segment_id operator(pg_catalog.=) $1
  and t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp
  and t.id is not null
