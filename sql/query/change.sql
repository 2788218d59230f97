-- Changes members in place.
update only @table@ as t
set @assignments@, processed = $2
from segmenter_delta as d
where d.operation operator(pg_catalog.=) 'c'::pg_catalog."char"
  and t.segment_id operator(pg_catalog.=) $1
  and t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp
  and t.id operator(pg_catalog.=) d.id::pg_catalog."varchar" collate @collation@
