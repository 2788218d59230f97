-- The rows that the segment's query returns, as the new side of a delta.
-- runs as: segment owner
-- row: id text, …
-- @new_values@: values that the query gives, each after a comma, e.g. , s.hash_email as n1
-- @query@: the query of the segment, e.g. select '1'::text as id, 'h'::text as hash_email
select (s.id)::pg_catalog.text collate pg_catalog."C" as id@new_values@
from (
@query@
) as s
