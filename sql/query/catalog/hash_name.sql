-- The first eight hexadecimal digits of the MD5 of a name: they keep shortened names apart.
-- runs as: caller
-- params: name text
-- row: hash text
select pg_catalog.left(pg_catalog.md5($1), 8)
