-- The ids of the members of the segment $1, as rows.
-- runs as: segment owner
-- params: segment uuid
-- row: id text
-- @table@: the segment table, e.g. public.vip
select (t.id)::pg_catalog.text collate pg_catalog."C" as id
from only @table@ as t
where t.segment_id operator(pg_catalog.=) $1
  and t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp
  and t.id is not null
