-- Takes sets off the list whose mart is gone.
-- runs as: extension owner
delete from @registry@ r
where not exists (select from pg_class c where c.oid = r.mart)
