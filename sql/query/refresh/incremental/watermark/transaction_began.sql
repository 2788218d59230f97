-- The start of the current transaction.
-- runs as: caller
-- row: began timestamptz
select pg_catalog.now()
