-- The active segment with the name $1, as far as those need it that belong to it as a family.
-- runs as: set owner
-- params: name text
-- row: id uuid, table_oid oid, owner oid, refresh_params jsonb
select s.id, s.table_name::oid as table_oid, s.owner::oid as owner, s.refresh_params
from @segments@ s
where s.name = $1 and s.actual_end = 'infinity'
