-- The number of members of the segment.
-- runs as: segment owner
-- params: segment uuid
-- row: members bigint
-- @table@: the segment table, e.g. public.vip
select pg_catalog.count(*)
from only @table@ as t
where t.segment_id operator(pg_catalog.=) $1
  and t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp
  and t.id is not null
