-- The columns of the segment $1 that have other values than these, where a value is not null.
-- runs as: set owner
-- params: segment uuid, description text, table_oid oid, owner oid, refresh_auto boolean, refresh_params jsonb, refresh_cron text, refresh_timezone text, sources jsonb, guards jsonb, exclude jsonb
-- row: changed text[]
select array_remove(array[
    case when s.description is distinct from $2 and $2 is not null then 'description' end,
    case when s.table_name::oid <> $3 then 'table_name' end,
    case when s.owner::oid <> $4 then 'owner' end,
    case when s.refresh_auto <> $5 then 'refresh_auto' end,
    case when s.refresh_params <> $6 then 'refresh_params' end,
    case when s.refresh_cron is distinct from $7 and $7 is not null then 'refresh_cron' end,
    case when s.refresh_timezone is distinct from $8 and $8 is not null then 'refresh_timezone' end,
    case when s.sources <> $9 then 'sources' end,
    case when s.guards <> $10 then 'guards' end,
    case when s.exclude <> $11 then 'exclude' end
], null) as changed
from @segments@ s
where s.id = $1
