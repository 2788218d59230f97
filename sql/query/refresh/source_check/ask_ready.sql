-- The answers of a source's query, two at most: a source gives one.
-- runs as: segment owner
-- row: answers boolean[]
-- @query@: the query of the source, e.g. select true as ready
select pg_catalog.array_agg(r.ready)
from (
    select q.*
    from (
@query@
    ) as q
    limit 2
) as r (ready)
