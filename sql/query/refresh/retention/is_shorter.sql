-- Whether one interval is shorter than another one, both given as text.
-- runs as: caller
-- params: interval text, other text
-- row: is_shorter boolean
select $1::pg_catalog.interval operator(pg_catalog.<) $2::pg_catalog.interval as is_shorter
