-- Makes the role $2 the owner of the set $1, and takes over the current names of its relations.
-- runs as: extension owner
-- params: mart oid, owner oid
with named as (
    update @registry_relations@ k
    set name = quote_ident(n.nspname) || '.' || quote_ident(c.relname)
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where k.mart = $1 and c.oid = k.relation
)
update @registry@ r
set owner_name = pg_get_userbyid($2)
where r.mart = $1
