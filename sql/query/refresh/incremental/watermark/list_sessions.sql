-- The other sessions of this database that may write: the start of their transaction, whether they
-- are in a transaction, and whether they are waiting.
-- runs as: extension owner
-- row: pid integer, xact_start timestamptz, in_transaction boolean, waits boolean
select
    a.pid,
    a.xact_start,
    exists (select from pg_locks l where l.pid = a.pid and l.locktype = 'virtualxid' and l.granted) as in_transaction,
    -- Lightweight locks do not count: a session waits for them in the middle of work.
    a.wait_event_type is not null and a.wait_event_type <> 'LWLock' as waits
from pg_stat_activity a
where a.datid = (select d.oid from pg_database d where d.datname = current_database())
  and a.pid <> pg_backend_pid()
  and a.backend_type not in ('autovacuum worker', 'parallel worker', 'walsender')
