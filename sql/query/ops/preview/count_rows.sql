-- The number of rows without an id, and of rows whose id an earlier one has.
-- runs as: caller
-- row: counts bigint[]
-- @rows@: the relation of rows, e.g. (select 'a' as id)
-- @ids@: the relation of ids, e.g. (select 'a' as id)
select array[
    pg_catalog.count(*) operator(pg_catalog.-) pg_catalog.count(p.id),
    pg_catalog.count(p.id) operator(pg_catalog.-) (select pg_catalog.count(*) from @ids@ as i)
]
from @rows@ as p
