-- The names of the mart $1 and its log, and the owner of the set, by its name at the registration
-- where that role was dropped. The log's name is null where the log was dropped.
-- runs as: extension owner
-- params: mart oid
-- row: names text[]
select array[
    r.mart::text,
    (
        select c.oid::regclass::text
        from @registry_relations@ k
        join pg_class c on c.oid = k.relation
        where k.mart = r.mart and k.kind = 'log'
    ),
    coalesce(
        (select o.rolname::text from pg_roles o where o.oid = r.owner),
        r.owner_name,
        pg_get_userbyid(m.relowner)::text
    )
]
from @registry@ r
join pg_class m on m.oid = r.mart
where r.mart = $1
