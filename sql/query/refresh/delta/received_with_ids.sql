-- The received rows of a query that reads the relation `changed`, which represents the ids $1 here: a
-- name of WITH comes before one of an ephemeral relation.
-- runs as: segment owner
-- params: ids text[]
-- row: id text, …
-- @type@: the type of the ids with its collation, e.g. pg_catalog.text
-- @received@: the rows of refresh/delta/received_rows, e.g. select '1'::text collate pg_catalog."C" as id, 'h'::text as n1
with changed as materialized (
    select (u.id)::@type@ as id from pg_catalog.unnest($1) as u (id)
)
@received@
