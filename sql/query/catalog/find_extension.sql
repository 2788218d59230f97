-- The extension's schema, owner and version, whether its registry holds the versions of sets, the
-- roles that may create objects in the schema (0: PUBLIC), and segmenter.timezone as ALTER DATABASE has
-- set it. Runs in the caller's search_path.
-- runs as: caller
-- row: schema text, owner oid, version text, has_versions boolean, creators oid[], timezone text
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
    ) as creators,
    (
        select pg_catalog.substr(c.setting, 20)
        from pg_catalog.pg_db_role_setting r
        cross join lateral pg_catalog.unnest(r.setconfig) c (setting)
        where r.setrole operator(pg_catalog.=) 0::pg_catalog.oid
          and r.setdatabase operator(pg_catalog.=) any (array[
              0::pg_catalog.oid,
              (
                  select d.oid
                  from pg_catalog.pg_database d
                  where d.datname operator(pg_catalog.=) pg_catalog.current_database()
              )
          ])
          and pg_catalog.lower(pg_catalog.left(c.setting, 19)) operator(pg_catalog.=) 'segmenter.timezone='
        order by r.setdatabase desc
        limit 1
    ) as timezone
from pg_catalog.pg_extension e
join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) e.extnamespace
where e.extname operator(pg_catalog.=) 'segmenter'
