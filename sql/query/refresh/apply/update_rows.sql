-- Changes members in place. Rows are found as in refresh/apply/close_rows.
-- runs as: table owner
-- params: segment uuid, at timestamp
-- @table@: the segment table, e.g. public.vip
-- @assignments@: what is assigned, e.g. hash_email = d.n1
update only @table@ as t
set @assignments@, processed = $2
from segmenter_delta as d
where d.operation operator(pg_catalog.=) 'c'::pg_catalog."char"
  and t.ctid operator(pg_catalog.=) d.place
  and case when t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp then true else false end
