-- The ids of the rows that a query gives; null: a row without an id, or with one that is too long to be stored.
-- runs as: caller
-- params: most integer
-- row: id text
-- @query@: the query, e.g. select 1 as id
select
    case when pg_catalog.octet_length(r.id) operator(pg_catalog.<=) $1 then r.id end as id
from (
    select (s.id)::pg_catalog.text collate pg_catalog."C" as id
    from (
@query@
    ) as s
) as r
