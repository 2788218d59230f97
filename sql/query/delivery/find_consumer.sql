-- A consumer by its name $1 or its id $2. A retired consumer is found, too: messages may still wait
-- for it, the deletion of its audiences as the last ones. An active consumer with the name comes
-- first.
-- runs as: set owner
-- params: name text, id uuid
-- row: id uuid, name text, role oid, params jsonb
select c.id, c.name, c.role::oid as role, c.params
from @consumers@ c
where c.name = $1 or c.id = $2
order by c.actual_end desc
limit 1
