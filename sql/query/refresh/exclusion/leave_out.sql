-- The delta without the members that are left out, whose ids are in the relation segmenter_excluded: of
-- those that would be added nothing is left but their number (x); those that would be changed are
-- removed.
-- runs as: segment owner
-- row: operation "char", id text, …, place tid
-- @values@: new and old values, each after a comma, e.g. , case when e.id is null then d.n1 end as n1, d.o1
select
    case
        when e.id is null then d.operation
        when d.operation operator(pg_catalog.=) 'a'::pg_catalog."char" then 'x'::pg_catalog."char"
        else 'r'
    end as operation,
    d.id@values@,
    d.place
from segmenter_delta as d
left join (select distinct s.id from segmenter_excluded as s) as e
    on e.id operator(pg_catalog.=) d.id
    and d.operation operator(pg_catalog.=) any (array['a', 'c']::pg_catalog."char"[])
