-- The rows that the segment's query returns, as the new side of a delta. An id that is too long to be
-- stored is null; long_id is its beginning.
-- runs as: segment owner
-- row: id text, long_id text, …
-- @id@: the id, e.g. (s.id)::pg_catalog.text
-- @long_id@: the beginning of a long id, e.g. null::pg_catalog.text
-- @new_values@: values that the query gives, each after a comma, e.g. , s.hash_email as n1
-- @query@: the query of the segment, e.g. select '1'::text as id, 'h'::text as hash_email
select (@id@) collate pg_catalog."C" as id, @long_id@ as long_id@new_values@
from (
@query@
) as s
