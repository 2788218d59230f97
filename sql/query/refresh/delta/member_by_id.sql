-- The actual member of one segment, $1, that has the id c.id, as the old side of a delta. Each is
-- looked up: how many of a table's rows are one segment's members PostgreSQL guesses badly before it has
-- analyzed the table, and a join on that guess might take hours.
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
