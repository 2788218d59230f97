-- The extension's schema, owner and version, whether its registry holds the versions of sets, and
-- the roles that may create objects in the schema (0: PUBLIC). Runs in the caller's search_path.
-- runs as: caller
-- row: schema text, owner oid, version text, has_versions boolean, creators oid[]
select
    n.nspname::pg_catalog.text as schema,
    e.extowner as owner,
    e.extversion as version,
    exists (
        select from pg_catalog.pg_class c
        where c.relname operator(pg_catalog.=) 'segmenter_registry_relations'
          and c.relnamespace operator(pg_catalog.=) e.extnamespace
    ) as has_versions,
    array(
        select case
            when a.grantee operator(pg_catalog.=) 'pg_database_owner'::pg_catalog.regrole then (
                select d.datdba
                from pg_catalog.pg_database d
                where d.datname operator(pg_catalog.=) pg_catalog.current_database()
            )
            else a.grantee
        end
        from pg_catalog.aclexplode(coalesce(n.nspacl, pg_catalog.acldefault('n', n.nspowner))) a
        where a.privilege_type operator(pg_catalog.=) 'CREATE'
    ) as creators
from pg_catalog.pg_extension e
join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) e.extnamespace
where e.extname operator(pg_catalog.=) 'segmenter'
