-- The id $1 in the type of changed ids, as text; an id that is no value of the type is an error.
-- runs as: segment owner
-- params: id text
-- row: id text
-- @type@: the type of the ids with its collation, e.g. pg_catalog.text
select ($1::@type@)::pg_catalog.text
