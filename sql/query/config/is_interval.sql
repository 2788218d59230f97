-- True where a text is an interval; any other text is an error.
-- runs as: caller
-- params: interval text
-- row: is_interval boolean
select $1::pg_catalog.interval is not null
