-- The members of the segment $1, with the fields that are taken.
-- runs as: table owner
-- params: segment uuid
-- row: …
-- @values@: the fields that are taken, e.g. t.id
-- @table@: the segment table, e.g. public.vip
-- @selected@: a further condition, or nothing, e.g.  and true
select @values@
from only @table@ as t
where t.segment_id operator(pg_catalog.=) $1
  and t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp
  and t.id is not null@selected@
