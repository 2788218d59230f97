-- Begins a membership or a version.
insert into @table@ (segment_id, id, actual_begin, actual_end, processed@columns@)
select $1, d.id, $2, 'infinity'::pg_catalog.timestamp, $2@values@
from segmenter_delta as d
where d.operation operator(pg_catalog.=) @operation@
