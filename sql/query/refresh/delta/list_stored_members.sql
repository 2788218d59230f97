-- The rows of the members of the segment $1.
-- runs as: segment owner
-- params: segment uuid
-- row: …
-- @table@: the segment table, e.g. public.vip
select t.*
from only @table@ as t
where t.segment_id operator(pg_catalog.=) $1
  and t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp
