-- Registers relations that were added to the set, of the kinds $1 with the names $2, and the
-- version $3 of its definition.
-- runs as: extension owner
-- params: kinds text[], names text[], schema_version integer
with added as (
    insert into @registry_relations@ (mart, kind, relation, name, relkind)
    select '@text:mart@'::regclass, n.kind, c.oid, n.name, c.relkind
    from unnest($1, $2) n (kind, name)
    join pg_class c on c.oid = n.name::regclass
)
update @registry@ r
set schema_version = $3
where r.mart = '@text:mart@'::regclass
