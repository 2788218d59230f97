-- How long ago a source was loaded, and whether that is longer than $1 and than $2.
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
