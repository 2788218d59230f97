-- The number of events to hand over.
-- runs as: table owner
-- params: segment uuid, at timestamp, reason text
-- row: events bigint
-- @members@: the events, e.g. select $1, $2, $3
select pg_catalog.count(*)
from (
@members@
) as i
