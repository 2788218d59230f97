-- Begins a membership or a version. In the order of the keys their indexes are written page by page:
-- a sort costs far less than going back and forth.
insert into @table@ (segment_id, id, actual_begin, actual_end, processed@columns@)
select $1, d.id, $2, 'infinity'::pg_catalog.timestamp, $2@values@
from segmenter_delta as d
where d.operation operator(pg_catalog.=) @operation@
order by d.id collate pg_catalog."C"
