-- Whether an interval, given as text, is longer than zero; text that is not an interval is an
-- error.
-- runs as: caller
-- params: interval text
-- row: is_positive boolean
select $1::pg_catalog.interval operator(pg_catalog.>) '0'::pg_catalog.interval
