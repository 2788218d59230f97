-- The actual member of one segment, $1, that has the id c.id, as the old side of a delta. Looked up
-- one by one, as in close.sql.
select (t.id)::pg_catalog.text collate pg_catalog."C" as id@old_values@
from only @table@ as t
where t.segment_id operator(pg_catalog.=) $1
  and t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp
  and t.id operator(pg_catalog.=) c.id::pg_catalog."varchar" collate @collation@
offset 0
