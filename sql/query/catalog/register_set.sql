-- Registers a set of the role $4: its relations have the kinds $1 and the names $2; its definition
-- has the version $3. The extension's own set belongs to the extension's owner.
-- runs as: extension owner
-- params: kinds text[], names text[], schema_version integer, owner oid
-- row: mart oid
with named as (
    select n.kind, c.oid::regclass as relation, n.name, c.relkind
    from unnest($1, $2) n (kind, name)
    join pg_class c on c.oid = n.name::regclass
), registered as (
    insert into @registry@ (mart, schema_version, owner_name)
    select m.relation, $3, case when not exists (
        select from pg_depend d
        where d.classid = 'pg_class'::regclass and d.objid = m.relation and d.deptype = 'e'
    ) then pg_get_userbyid($4) end
    from named m
    where m.kind = 'mart'
    returning mart
), related as (
    insert into @registry_relations@ (mart, kind, relation, name, relkind)
    select m.mart, n.kind, n.relation, n.name, n.relkind from registered m cross join named n
)
select m.mart::oid from registered m
