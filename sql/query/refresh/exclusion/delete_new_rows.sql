-- Deletes the rows of members that a procedure has added to the segment $1, though other segments have
-- them: their ids are in the relation segmenter_excluded, and those that were members before are removed
-- in the relation segmenter_delta.
-- runs as: table owner
-- params: segment uuid
-- @table@: the segment table, e.g. public.vip
-- @collation@: the collation of the column id, e.g. pg_catalog."default"
delete from only @table@ as t
using (
    select distinct s.id
    from segmenter_excluded as s
    where not exists (
        select
        from segmenter_delta as d
        where d.id operator(pg_catalog.=) s.id and d.operation operator(pg_catalog.=) 'r'::pg_catalog."char"
    )
) as e
where t.segment_id operator(pg_catalog.=) $1
  and t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp
  and t.id operator(pg_catalog.=) e.id::pg_catalog."varchar" collate @collation@
