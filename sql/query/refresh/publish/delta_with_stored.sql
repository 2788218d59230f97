-- The delta joined with the stored rows, for columns that the refresher does not return.
-- part of: refresh/publish/list_changed_members
-- @delta@: the delta, e.g. segmenter_delta
-- @table@: the segment table, e.g. public.vip
-- @collation@: the collation of the column id, e.g. pg_catalog."default"
@delta@ as d
left join lateral (
    -- The row as it is stored after the delta was applied. OFFSET 0 forces one lookup for each id.
    select s.*
    from only @table@ as s
    where s.segment_id operator(pg_catalog.=) $1
      and s.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp
      and s.id operator(pg_catalog.=) d.id::pg_catalog."varchar" collate @collation@
    offset 0
) as t on true
