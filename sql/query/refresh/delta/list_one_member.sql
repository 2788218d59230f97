-- The member $2 of the segment $1, in the form of refresh/delta/list_members.
-- runs as: table owner
-- params: segment uuid, id text
-- row: id text, …, place tid
-- @old_values@: old values of the table's columns, each after a comma, e.g. , t.hash_email as o1
-- @table@: the segment table, e.g. public.vip
-- @collation@: the collation of the column id, e.g. pg_catalog."default"
select (t.id)::pg_catalog.text collate pg_catalog."C" as id@old_values@, t.ctid as place
from only @table@ as t
where t.segment_id operator(pg_catalog.=) $1
  and t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp
  and t.id operator(pg_catalog.=) $2::pg_catalog."varchar" collate @collation@
