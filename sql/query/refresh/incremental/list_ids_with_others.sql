-- All ids that a query returns, and the ids $2.
-- runs as: segment owner
-- params: since timestamptz, others text[]
-- row: id text
-- @query@: the query of changed ids, e.g. select '1'::text as id where $1 is not null
-- @type@: the type of the ids with its collation, e.g. pg_catalog.text
select a.id
from (
    select s.id
    from (
@query@
    ) as s
    union all
    select (u.id)::@type@
    from pg_catalog.unnest($2) as u (id)
) as a
where a.id is not null
group by a.id
