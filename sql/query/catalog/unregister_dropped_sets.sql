-- Unregisters sets whose mart no longer exists.
-- runs as: extension owner
delete from @registry@ r
where not exists (select from pg_class c where c.oid = r.mart)
