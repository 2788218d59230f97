-- Deletes the entries $1.
delete from @log@ l where l.id = any ($1)
