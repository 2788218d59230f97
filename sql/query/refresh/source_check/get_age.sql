-- The time since a source was loaded, and whether that exceeds $1 and $2; null: the source has no
-- load time.
-- runs as: segment owner
-- params: error_after text, warn_after text
-- row: facts text[]
-- @loaded_at@: the column with load times, e.g. processed
-- @table@: the source, e.g. public.vip
-- @filter@: the condition of the source, e.g. true
select case when f.loaded_at is not null then array[
    pg_catalog.date_trunc('second', f.now operator(pg_catalog.-) f.loaded_at)::pg_catalog.text,
    (f.now operator(pg_catalog.-) f.loaded_at operator(pg_catalog.>) $1::pg_catalog.interval)::pg_catalog.text,
    (f.now operator(pg_catalog.-) f.loaded_at operator(pg_catalog.>) $2::pg_catalog.interval)::pg_catalog.text
] end
from (
    select
        pg_catalog.max(s.@loaded_at@)::pg_catalog.timestamptz as loaded_at,
        pg_catalog.clock_timestamp() as now
    from @table@ as s
    where (
@filter@
    )
) as f
