-- The active consumer with the name $1, also one that the caller may not see.
-- runs as: set owner
-- params: name text
-- row: id uuid, role oid, subscribers oid[]
select c.id, c.role::oid as role, c.subscribers::oid[] as subscribers
from @consumers@ c
where c.name = $1 and c.actual_end = 'infinity'
