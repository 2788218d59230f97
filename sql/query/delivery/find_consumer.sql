-- A consumer by its name $1 or its id $2. A retired consumer is found, too: messages may still wait
-- for it, the deletion of its audiences as the last ones. Of several with the name, those come first
-- for which the role $3 may act (it is a member of their role, or of the set's owner, $4), of these
-- the active one. So a name that was given up and taken by another role finds the consumer of $3.
-- runs as: set owner
-- params: name text, id uuid, caller oid, set_owner oid
-- row: id uuid, name text, role oid, params jsonb, home text
select c.id, c.name, c.role::oid as role, c.params, c.home
from @consumers@ c
where c.name = $1 or c.id = $2
order by
    coalesce(pg_has_role($3, c.role, @membership@), false) or pg_has_role($3, $4, @membership@) desc,
    c.actual_end = 'infinity' desc,
    c.actual_end > now(),
    c.actual_end desc,
    c.id
limit 1
