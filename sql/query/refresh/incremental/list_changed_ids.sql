-- The ids that have changed since $1, each once. Ids that are equal but differ as text are all
-- returned.
-- runs as: segment owner
-- params: since timestamptz
-- row: id text
-- @query@: the query of changed ids, e.g. select '1'::text as id where $1 is not null
-- @key@: the columns that tell ids apart, e.g. s.id
select s.id
from (
@query@
) as s
where s.id is not null
group by @key@
