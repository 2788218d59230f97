-- Keeps the people with the ids $1 out: of the whole set with $2, else of the segments of the roles that
-- the role $3 may act as. Returns whether the set has the secret under which ids are hashed.
-- runs as: set owner
-- params: ids text[], is_whole boolean, caller oid
-- row: has_secret boolean
-- @secret_key@: catalog/secret_key, e.g. select null::bytea as inner_key, null::bytea as outer_key
with key as materialized (
@secret_key@
), kept as (
    insert into @kept_out@ (hash, owner_name)
    select distinct sha256(s.outer_key || sha256(s.inner_key || convert_to(i.id, 'UTF8'))), r.name
    from unnest($1) i (id)
    cross join key s
    cross join lateral (
        select null as name
        where $2
        union all
        select r.rolname::text
        from pg_roles r
        where not $2 and pg_has_role($3, r.oid, @membership@) and not starts_with(r.rolname, 'pg_')
    ) r
    on conflict do nothing
)
select exists (select from key) as has_secret
