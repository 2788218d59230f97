-- Ends the membership, or the version, of what left or changed.
update only @table@ as t
set actual_end = $2, processed = $2
from segmenter_delta as d
where d.operation operator(pg_catalog.=) any (@operations@)
  and t.segment_id operator(pg_catalog.=) $1
  and t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp
  and t.id operator(pg_catalog.=) d.id::pg_catalog."varchar" collate @collation@
