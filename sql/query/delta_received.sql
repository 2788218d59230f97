-- What is received, in the form of a delta: as added, until it is met among the members.
select 'a'::pg_catalog."char" as operation, q.id@values@, null::pg_catalog.tid as place
from (
@received@
) as q
