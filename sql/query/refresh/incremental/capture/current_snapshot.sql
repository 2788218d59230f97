-- The snapshot of the statement.
-- runs as: caller
-- row: snapshot text
select pg_catalog.pg_current_snapshot()::pg_catalog.text
