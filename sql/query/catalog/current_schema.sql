-- The schema in which the caller's new relations are created.
-- runs as: caller
-- row: schema text
select pg_catalog.current_schema()::pg_catalog.text
