-- The members of the segment $1 with the ids $2, as a delta that removes them.
-- runs as: segment owner
-- params: segment uuid, ids text[]
-- row: operation "char", id text, …, place tid
-- @values@: new values, which are null, and old ones, each after a comma, e.g. , null::pg_catalog.text as n1, t.hash_email as o1
-- @table@: the segment table, e.g. public.vip
-- @collation@: the collation of the column id, e.g. pg_catalog."default"
select
    'r'::pg_catalog."char" as operation,
    (t.id)::pg_catalog.text collate pg_catalog."C" as id@values@,
    t.ctid as place
from only @table@ as t
where t.segment_id operator(pg_catalog.=) $1
  and t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp
  and t.id operator(pg_catalog.=) any ($2::pg_catalog."varchar"[] collate @collation@)
