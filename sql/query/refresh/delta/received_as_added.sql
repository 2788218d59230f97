-- The received rows in the form of a delta, as added: the comparison with members changes that.
-- runs as: segment owner
-- row: operation "char", id text, …, place tid
-- @values@: new values and nulls for old ones, each after a comma, e.g. , q.n1, null::text as o1
-- @received@: the rows of refresh/delta/received_rows, e.g. select '1'::text collate pg_catalog."C" as id, 'h'::text as n1
select 'a'::pg_catalog."char" as operation, q.id@values@, null::pg_catalog.tid as place
from (
@received@
) as q
