-- Ends the membership of members that a procedure has left in the segment $1, though other segments have
-- them: their ids are in the relation segmenter_excluded.
-- runs as: table owner
-- params: segment uuid, at timestamp
-- @table@: the segment table, e.g. public.vip
-- @collation@: the collation of the column id, e.g. pg_catalog."default"
update only @table@ as t
set actual_end = $2, processed = $2
from (select distinct s.id from segmenter_excluded as s) as e
where t.segment_id operator(pg_catalog.=) $1
  and t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp
  and t.id operator(pg_catalog.=) e.id::pg_catalog."varchar" collate @collation@
