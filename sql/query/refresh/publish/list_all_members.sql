-- All members of the segment $1: the id, and the values to hand over.
-- runs as: table owner
-- params: segment uuid
-- row: id text, …
-- @now@: the values that are handed over, e.g. t.id
-- @table@: the segment table, e.g. public.vip
-- @selected@: a further condition, or nothing, e.g.  and true
select t.id::pg_catalog.text as id, @now@
from only @table@ as t
where t.segment_id operator(pg_catalog.=) $1
  and t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp
  and t.id is not null@selected@
