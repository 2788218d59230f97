-- The active segment with the name $1, or the segment with the id $2.
-- runs as: set owner
-- params: name text, id uuid
-- row: id uuid, name text, table_oid oid, owner oid, refresh_params jsonb, guards jsonb, sources jsonb, refresh_cron text, refresh_timezone text, actual boolean
select
    s.id,
    s.name,
    s.table_name::oid as table_oid,
    s.owner::oid as owner,
    s.refresh_params,
    s.guards,
    s.sources,
    s.refresh_cron,
    s.refresh_timezone,
    s.actual_end = 'infinity' as actual
from @segments@ s
where (s.name = $1 and s.actual_end = 'infinity') or s.id = $2
