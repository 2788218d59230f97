-- Deletes the log entries older than $1, at most $2 of them, the oldest first. Returns their
-- number.
-- runs as: set owner
-- params: before timestamptz, limit bigint
-- row: deleted bigint
with deleted as (
    delete from @log@ l
    where l.id in (select o.id from @log@ o where o.processed < $1 order by o.processed limit $2)
    returning l.id
)
select count(*) as deleted from deleted
