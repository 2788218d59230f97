-- A new random id.
-- runs as: caller
-- row: id uuid
select pg_catalog.gen_random_uuid()
