-- No row, with the column that a query for changed ids returns.
-- runs as: segment owner
-- params: since timestamptz
-- row: id text
-- @query@: the query of changed ids, e.g. select '1'::text as id where $1 is not null
select s.id
from (
@query@
) as s
where false
