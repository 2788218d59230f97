-- Fails if the role may not read what a query reads. Nothing of the query is executed.
-- runs as: segment owner
-- @query@: the query, e.g. select 1 as id
-- row: …
explain @query@
