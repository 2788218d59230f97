-- Ends the membership, or the version, of what left or changed, where the delta has found it: a row that
-- somebody else has changed since is not there any more. The CASE hides its condition from PostgreSQL's
-- guess of how many rows it holds for.
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
