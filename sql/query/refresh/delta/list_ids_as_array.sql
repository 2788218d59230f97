-- The ids of the relation `changed` as texts.
-- runs as: segment owner
-- row: ids text[]
select pg_catalog.array_agg((s.id)::pg_catalog.text) from changed as s
