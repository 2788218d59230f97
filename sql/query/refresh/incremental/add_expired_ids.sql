-- The ids that have changed since $1, and those in the relation of expired ids.
-- runs as: segment owner
-- params: since timestamptz
-- row: id text
-- @query@: the query of changed ids, e.g. select '1'::text as id where $1 is not null
select s.id
from (
@query@
) as s
union all
select e.id from segmenter_expired as e
