-- How many rows a source has, counted no further than $1.
select pg_catalog.count(*)
from (
    select
    from @table@ as s
    where (
@filter@
    )
    limit $1
) as r
