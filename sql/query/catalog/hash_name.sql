-- A short text for a name that is too long.
-- runs as: caller
-- params: name text
-- row: hash text
select pg_catalog.left(pg_catalog.md5($1), 8)
