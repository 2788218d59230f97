-- The members of the segment $1 with the places of their rows, as the old side of a delta.
-- runs as: segment owner
-- params: segment uuid
-- row: id text, …, place tid
-- @old_values@: old values of the table's columns, each after a comma, e.g. , t.hash_email as o1
-- @table@: the segment table, e.g. public.vip
select (t.id)::pg_catalog.text collate pg_catalog."C" as id@old_values@, t.ctid as place
from only @table@ as t
where t.segment_id operator(pg_catalog.=) $1
  and t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp
  and t.id is not null
