-- The ids $1.
-- runs as: segment owner
-- params: ids text[]
-- row: id text
select u.id collate pg_catalog."C" as id from pg_catalog.unnest($1) as u (id)
