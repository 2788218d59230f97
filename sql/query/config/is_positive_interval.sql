-- Whether a text is an interval longer than zero; a text that is none is an error.
-- runs as: caller
-- params: interval text
-- row: is_positive boolean
select $1::pg_catalog.interval operator(pg_catalog.>) '0'::pg_catalog.interval
