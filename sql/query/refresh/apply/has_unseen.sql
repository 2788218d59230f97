-- Whether the table has added members of the segment $1: others have inserted them, unseen by the
-- transaction's own snapshot.
-- runs as: table owner
-- params: segment uuid
-- row: has_unseen boolean
-- @table@: the segment table, e.g. public.vip
-- @collation@: the collation of its ids, e.g. pg_catalog."C"
select exists (
    select
    from segmenter_delta as d
    join only @table@ as t on t.id operator(pg_catalog.=) d.id collate @collation@
    where d.operation operator(pg_catalog.=) 'a'::pg_catalog."char"
      and t.segment_id operator(pg_catalog.=) $1
      and t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp
)
