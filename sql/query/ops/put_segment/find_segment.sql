-- The active segment with the name $1, and whether the role $2 may act as its owner.
-- runs as: set owner
-- params: name text, caller oid
-- row: id uuid, table_oid oid, owner oid, refresh_params jsonb, refresh_cron text, refresh_auto boolean, is_permitted boolean
select
    s.id,
    s.table_name::oid as table_oid,
    s.owner::oid as owner,
    s.refresh_params,
    s.refresh_cron,
    s.refresh_auto,
    pg_has_role($2, s.owner, @membership@) as is_permitted
from @segments@ s
where s.name = $1 and s.actual_end = 'infinity'
