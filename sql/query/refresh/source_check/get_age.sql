-- The newest load time of a source, where it is one: `infinite` for infinity; otherwise the time since
-- it was loaded, whether that exceeds $1 and $2, and whether it lies in the future by more than $3. Null:
-- the source was never loaded: it has no load time, or -infinity.
-- runs as: segment owner
-- params: error_after text, warn_after text, tolerance text
-- row: facts text[]
-- @loaded_at@: the column with load times, e.g. processed
-- @table@: the source, e.g. public.vip
-- @filter@: the condition of the source, e.g. true
select case
    when f.loaded_at operator(pg_catalog.=) 'infinity'::pg_catalog.timestamptz then array['infinite']
    when f.loaded_at operator(pg_catalog.>) '-infinity'::pg_catalog.timestamptz then array[
        pg_catalog.date_trunc('second', f.now operator(pg_catalog.-) f.loaded_at)::pg_catalog.text,
        (f.now operator(pg_catalog.-) f.loaded_at operator(pg_catalog.>) $1::pg_catalog.interval)::pg_catalog.text,
        (f.now operator(pg_catalog.-) f.loaded_at operator(pg_catalog.>) $2::pg_catalog.interval)::pg_catalog.text,
        (f.loaded_at operator(pg_catalog.-) f.now operator(pg_catalog.>) $3::pg_catalog.interval)::pg_catalog.text,
        pg_catalog.date_trunc('second', f.loaded_at)::pg_catalog.text
    ]
end
from (
    select
        pg_catalog.max(s.@loaded_at@)::pg_catalog.timestamptz as loaded_at,
        pg_catalog.clock_timestamp() as now
    from @table@ as s
    where (
@filter@
    )
) as f
