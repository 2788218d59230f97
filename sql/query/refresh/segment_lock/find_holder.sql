-- What holds the advisory lock with the keys $1 and $2 in the class $3: a process, or a prepared
-- transaction.
-- runs as: set owner
-- params: high oid, low oid, class smallint
-- row: pid integer, gid text
select l.pid, p.gid
from pg_catalog.pg_locks l
left join pg_catalog.pg_locks x
    on l.pid is null and x.virtualtransaction = l.virtualtransaction and x.locktype = 'transactionid'
left join pg_catalog.pg_prepared_xacts p on p.transaction = x.transactionid
where l.locktype = 'advisory' and l.granted
  and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
  and l.classid = $1 and l.objid = $2 and l.objsubid = $3
order by p.gid
limit 1
