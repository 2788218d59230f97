-- The id $1 as a changed one; none: it is no value of the type of ids.
-- runs as: segment owner
-- params: id text
-- row: …
-- @type@: the type of the ids with its collation, e.g. pg_catalog.text
select $1::@type@ as id
