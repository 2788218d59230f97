-- One actual consumer by its name, $1, or its id, $2.
select c.id, c.name, c.role::oid as role, c.params
from @consumers@ c
where (c.name = $1 or c.id = $2) and c.actual_end = 'infinity'
