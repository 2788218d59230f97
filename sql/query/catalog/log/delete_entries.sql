-- Deletes entries.
-- runs as: set owner
-- params: ids bigint[]
delete from @log@ l where l.id = any ($1)
