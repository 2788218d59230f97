-- Ends the membership, or the version, of members that were removed or changed. The delta has the
-- place of each row; a row that was changed concurrently is no longer at that place. The CASE keeps
-- the planner from using its condition to estimate the number of rows.
-- runs as: table owner
-- params: segment uuid, at timestamp
-- @table@: the segment table, e.g. public.vip
-- @operations@: the operations, e.g. array['r'::pg_catalog."char"]
update only @table@ as t
set actual_end = $2, processed = $2
from segmenter_delta as d
where d.operation operator(pg_catalog.=) any (@operations@)
  and t.ctid operator(pg_catalog.=) d.place
  and case when t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp then true else false end
