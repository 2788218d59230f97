-- How many members there are to hand over.
select pg_catalog.count(*)
from (
@members@
) as i
