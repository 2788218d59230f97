-- Whether the segment has members.
-- runs as: table owner
-- params: segment uuid
-- row: has_members boolean
-- @table@: the segment table, e.g. public.vip
select exists (
    select
    from only @table@ as t
    where t.segment_id operator(pg_catalog.=) $1
      and t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp
)
