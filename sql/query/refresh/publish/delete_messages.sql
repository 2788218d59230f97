-- Deletes the messages $1, except those that are locked by another transaction.
-- runs as: set owner
-- params: ids bigint[]
delete from @outbox@ o
where o.id in (select l.id from @outbox@ l where l.id = any ($1) for update skip locked)
