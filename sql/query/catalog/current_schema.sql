-- The schema that a new relation of the caller's would be in.
-- runs as: caller
-- row: schema text
select pg_catalog.current_schema()::pg_catalog.text
