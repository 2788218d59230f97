-- The delta of changed ids (c): received rows (q) joined with the members (m), with the operations
-- of refresh/delta/full_join. Two more operations are o, a received row whose id is not among the
-- changed ones, and -, a changed id that is no member, neither before nor now.
-- runs as: segment owner
-- params: segment uuid
-- row: operation "char", id text, …, place tid
-- @differs@: whether new and old values differ, e.g. q.n1 operator(pg_catalog.<>) m.o1
-- @values@: new and old values, each after a comma, e.g. , q.n1, m.o1
-- @ids@: the relation of changed ids, e.g. segmenter_ids
-- @received@: the rows of refresh/delta/checked_rows, e.g. select '1'::text collate pg_catalog."C" as id, null::text as long_id, 'h'::text as n1
-- @member@: the query of refresh/delta/member_by_id, e.g. select 'h'::text as o1, '1'::text as id, '(0,1)'::pg_catalog.tid as place
select
    case
        when q.long_id is not null then 'l'::pg_catalog."char"
        when c.id is null and q.id is null then 'i'
        when c.id is null then 'o'
        when q.id is null and m.id is null then '-'
        when m.id is null then 'a'
        when q.id is null then 'r'
        when @differs@ then 'c'
        else '='
    end as operation,
    coalesce(c.id, q.id, q.long_id) as id@values@,
    m.place
from (
    select (s.id)::pg_catalog.text collate pg_catalog."C" as id
    from @ids@ as s
) as c
full join (
@received@
) as q on q.id operator(pg_catalog.=) c.id
left join lateral (
@member@
) as m on true
