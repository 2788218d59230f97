-- The process that holds the advisory lock with the keys $1 and $2 in the class $3.
-- runs as: set owner
-- params: high oid, low oid, class smallint
-- row: pid integer
select l.pid
from pg_catalog.pg_locks l
where l.locktype = 'advisory' and l.granted
  and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
  and l.classid = $1 and l.objid = $2 and l.objsubid = $3
limit 1
