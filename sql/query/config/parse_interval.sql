-- An interval in milliseconds.
-- runs as: set owner
-- params: interval text
-- row: milliseconds bigint
select (extract(epoch from $1::pg_catalog.interval) operator(pg_catalog.*) 1000)::pg_catalog.int8
