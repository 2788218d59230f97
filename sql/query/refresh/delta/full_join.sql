-- The delta: received rows (q) joined with the members (m). The operation is (a)dded, (r)emoved,
-- (c)hanged, (i)nvalid because it has no key, (l)eft out because its key is too long, or = for
-- unchanged. n1, n2, … are the new values of
-- the segment table's columns, o1, o2, … the old ones; place is the ctid of the old row.
-- runs as: segment owner
-- params: segment uuid
-- row: operation "char", id text, …, place tid
-- @differs@: whether new and old values differ, e.g. q.n1 operator(pg_catalog.<>) m.o1
-- @values@: new and old values, each after a comma, e.g. , q.n1, m.o1
-- @received@: the rows of refresh/delta/checked_rows, e.g. select '1'::text collate pg_catalog."C" as id, null::text as long_id, 'h'::text as n1
-- @members@: the rows of refresh/delta/list_members, e.g. select '1'::text collate pg_catalog."C" as id, 'h'::text as o1, '(0,1)'::pg_catalog.tid as place
select
    case
        when q.long_id is not null then 'l'::pg_catalog."char"
        when q.id is null and m.id is null then 'i'
        when m.id is null then 'a'
        when q.id is null then 'r'
        when @differs@ then 'c'
        else '='
    end as operation,
    coalesce(q.id, m.id, q.long_id) as id@values@,
    m.place
from (
@received@
) as q
full join (
@members@
) as m on q.id operator(pg_catalog.=) m.id
