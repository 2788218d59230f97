-- The received rows in the form of a delta, as added: the comparison with members changes that. Those
-- whose key is too long are left out (l).
-- runs as: segment owner
-- row: operation "char", id text, …, place tid
-- @values@: new values and nulls for old ones, each after a comma, e.g. , q.n1, null::text as o1
-- @received@: the rows of refresh/delta/received_rows, e.g. select '1'::text collate pg_catalog."C" as id, null::text as long_id, 'h'::text as n1
select
    case when q.long_id is null then 'a'::pg_catalog."char" else 'l' end as operation,
    coalesce(q.id, q.long_id) as id@values@,
    null::pg_catalog.tid as place
from (
@received@
) as q
