-- Begins a membership or a version. The rows are sorted by key, so that index pages are written in
-- order: that is much faster than random access, and the sort is cheap.
-- runs as: table owner
-- params: segment uuid, at timestamp
-- @table@: the segment table, e.g. public.vip
-- @columns@: further columns, each after a comma, e.g. , hash_email
-- @values@: their values, each after a comma, e.g. , d.n1
-- @operation@: the operation, e.g. 'a'::pg_catalog."char"
insert into @table@ (segment_id, id, actual_begin, actual_end, processed@columns@)
select $1, d.id, $2, 'infinity'::pg_catalog.timestamp, $2@values@
from segmenter_delta as d
where d.operation operator(pg_catalog.=) @operation@
order by d.id collate pg_catalog."C"
