-- The id of the current transaction; null: it has none.
-- runs as: caller
-- row: id text
select pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.text
