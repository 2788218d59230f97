-- The number of members to hand over.
-- runs as: table owner
-- params: segment uuid
-- row: members bigint
-- @members@: the members to hand over, e.g. select $1
select pg_catalog.count(*)
from (
@members@
) as i
