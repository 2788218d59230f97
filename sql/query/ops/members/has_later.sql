-- Whether a member of the segment $1 has a period that began after the time $2.
-- runs as: caller
-- params: segment uuid, at timestamp
-- row: has_later boolean
-- @table@: the segment table, e.g. public.vip
select exists (
    select from only @table@ as t
    where t.segment_id operator(pg_catalog.=) $1 and t.actual_begin operator(pg_catalog.>) $2
) as has_later
