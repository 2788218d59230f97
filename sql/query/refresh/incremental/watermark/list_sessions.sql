-- The other sessions of this database that may write: when their transactions began, whether they
-- are in one at all, and whether they wait for something.
-- runs as: extension owner
-- row: pid integer, xact_start timestamptz, in_transaction boolean, waits boolean
select
    a.pid,
    a.xact_start,
    exists (select from pg_locks l where l.pid = a.pid and l.locktype = 'virtualxid' and l.granted) as in_transaction,
    -- A lock of the moment is waited for in the midst of work.
    a.wait_event_type is not null and a.wait_event_type <> 'LWLock' as waits
from pg_stat_activity a
where a.datid = (select d.oid from pg_database d where d.datname = current_database())
  and a.pid <> pg_backend_pid()
  and a.backend_type not in ('autovacuum worker', 'parallel worker', 'walsender')
