-- Adds a segment to the config. With a schedule it is automatic.
-- runs as: caller
-- params: name text, description text, table_oid oid, owner oid, refresh_params jsonb, refresh_cron text, refresh_timezone text, sources jsonb, guards jsonb, exclude jsonb
-- row: id uuid
insert into @segments@ (
    name, description, table_name, owner, refresh_params, refresh_cron, refresh_auto, refresh_timezone,
    sources, guards, exclude
)
values (
    $1, $2, $3::oid::regclass, $4::oid::regrole, coalesce($5, '{}'::jsonb), $6, $6 is not null, $7,
    coalesce($8, '[]'::jsonb), coalesce($9, '{}'::jsonb), coalesce($10, '[]'::jsonb)
)
returning id
