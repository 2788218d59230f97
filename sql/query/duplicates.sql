-- Examples of keys that are received more than once.
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
