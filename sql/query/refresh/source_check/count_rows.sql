-- How many rows a source has, counted no further than $1.
-- runs as: segment owner
-- params: limit bigint
-- row: rows bigint
-- @table@: the source, e.g. public.vip
-- @filter@: the condition of the source, e.g. true
select pg_catalog.count(*)
from (
    select
    from @table@ as s
    where (
@filter@
    )
    limit $1
) as r
