-- The number of rows of a source, counted up to $1 only. (Citus takes no row
-- without a column.)
-- runs as: segment owner
-- params: limit bigint
-- row: rows bigint
-- @table@: the source, e.g. public.vip
-- @filter@: the condition of the source, e.g. true
select pg_catalog.count(*)
from (
    select 1
    from @table@ as s
    where (
@filter@
    )
    limit $1
) as r
