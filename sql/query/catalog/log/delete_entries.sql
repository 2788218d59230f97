-- Deletes the log entries $1.
-- runs as: set owner
-- params: ids bigint[]
delete from @log@ l where l.id = any ($1)
