-- Unregisters sets whose mart no longer exists.
-- runs as: extension owner
with dropped as (
    delete from @registry@ r
    where not exists (select from pg_class c where c.oid = r.mart)
), readers as (
    delete from @change_readers@ r
    where not exists (select from pg_class c where c.oid = r.mart)
)
delete from @registry_relations@ k
where not exists (select from pg_class c where c.oid = k.mart)
