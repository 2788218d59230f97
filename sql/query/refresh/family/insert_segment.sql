-- Adds a segment to a family, with the table of the family.
-- runs as: segment owner
-- params: name text, table_oid oid, owner oid, family text, guards jsonb, context text
-- row: id uuid
insert into @segments@ (name, table_name, owner, refresh_params, guards, context, refresh_auto)
values (
    $1, $2::pg_catalog.oid::pg_catalog.regclass, $3::pg_catalog.oid::pg_catalog.regrole,
    pg_catalog.jsonb_build_object('family', $4), coalesce($5, '{}'::pg_catalog.jsonb), $6, true
)
returning id
