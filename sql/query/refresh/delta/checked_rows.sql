-- The received rows, where an id that is too long to be stored is null; long_id is its beginning.
-- runs as: segment owner
-- row: id text, long_id text, …
-- @id@: the id, e.g. q.id
-- @long_id@: the beginning of a long id, e.g. null::pg_catalog.text
-- @values@: new values, each after a comma, e.g. , q.n1
-- @received@: the rows of refresh/delta/received_rows, e.g. select '1'::text collate pg_catalog."C" as id, 'h'::text as n1
select @id@ as id, @long_id@ as long_id@values@
from (
@received@
) as q
