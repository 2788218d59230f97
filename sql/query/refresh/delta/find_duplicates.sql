-- Examples of keys that were received more than once.
-- runs as: segment owner
-- row: ids text[]
-- @received@: the rows of refresh/delta/checked_rows, e.g. select '1'::text collate pg_catalog."C" as id, null::text as long_id, 'h'::text as n1
select pg_catalog.array_agg(e.id order by e.id)
from (
    select q.id
    from (
@received@
    ) as q
    where q.id is not null
    group by q.id
    having pg_catalog.count(*) operator(pg_catalog.>) 1
    order by q.id
    limit 5
) as e
