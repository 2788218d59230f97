-- The query for the rows of one segment of a family: the family's query, filtered by the segment's name. It is
-- analysed and run where a segment has a query of its own.
-- part of: refresh/delta/received_rows
-- @query@: the family's query, e.g. select g as id, 'odd' as segment from generate_series(1, 9, 2) g
-- @name@: the name of the segment as a literal, e.g. 'odd'
select segmenter_family.* from (
@query@
) segmenter_family where segmenter_family.segment::pg_catalog.text operator(pg_catalog.=) @name@ collate pg_catalog."C"
