-- The relations of the set whose mart is $1: their kinds, OIDs, current names and owners (null:
-- dropped), their names when they were registered, and whether they are tables or views as they were
-- then; with the set's owner (null: the extension's, or no role) and version.
-- runs as: extension owner
-- params: mart oid
-- row: owner oid, owner_name text, is_own boolean, schema_version integer, kind text, relation oid, registered_name text, name text, relation_owner oid, is_kind boolean
select
    r.owner::oid as owner,
    r.owner_name,
    (
        select exists (
            select from pg_depend d
            where d.classid = 'pg_class'::regclass and d.objid = $1 and d.deptype = 'e'
        )
    ) as is_own,
    r.schema_version,
    k.kind,
    k.relation::oid as relation,
    k.name as registered_name,
    quote_ident(n.nspname) || '.' || quote_ident(c.relname) as name,
    c.relowner as relation_owner,
    c.relkind = k.relkind as is_kind
from @registry@ r
join @registry_relations@ k on k.mart = r.mart
left join pg_class c on c.oid = k.relation
left join pg_namespace n on n.oid = c.relnamespace
where r.mart = $1
