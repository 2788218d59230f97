-- The ids whose answer the clock changes between the times $1 and $2, in the type of the changed ids.
-- runs as: segment owner
-- params: last timestamptz, now timestamptz
-- row: id text
-- @query@: the query of expiring ids, e.g. select '1'::text as id where $1 < $2
-- @type@: the type of the changed ids with its collation, e.g. pg_catalog.text
select s.id::@type@ as id
from (
@query@
) as s
where s.id is not null
