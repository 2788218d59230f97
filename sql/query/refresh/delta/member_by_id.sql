-- The member of the segment $1 with the id c.id, as the old side of a delta. OFFSET 0 forces one
-- lookup for each id: before the table is analyzed, the planner estimates the number of members
-- badly, and a join planned on that estimate may take hours.
-- part of: refresh/delta/join_changed
-- @old_values@: old values of the table's columns, each after a comma, e.g. , t.hash_email as o1
-- @table@: the segment table, e.g. public.vip
-- @collation@: the collation of the column id, e.g. pg_catalog."default"
select (t.id)::pg_catalog.text collate pg_catalog."C" as id@old_values@, t.ctid as place
from only @table@ as t
where t.segment_id operator(pg_catalog.=) $1
  and t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp
  and t.id operator(pg_catalog.=) c.id::pg_catalog."varchar" collate @collation@
offset 0
