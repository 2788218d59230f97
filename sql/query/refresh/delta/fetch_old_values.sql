-- Members that left or changed, with their old values: what is behind the places in segmenter_met, in
-- the order of the table. Each is looked up, for it is not worth a join with all the others. A key that
-- another one was taken for is an x.
-- runs as: segment owner
-- row: operation "char", id text, …, place tid
-- @values@: new and old values, each after a comma, e.g. , d.n1, t.hash_email as o1
-- @table@: the segment table, e.g. public.vip
select
    case when t.id is null or d.id operator(pg_catalog.<>) t.id::pg_catalog.text then 'x' else d.operation end as operation,
    coalesce(d.id, t.id::pg_catalog.text) collate pg_catalog."C" as id@values@, d.place
from (select m.* from segmenter_met as m order by m.place) as d
left join lateral (
    select s.* from only @table@ as s where s.ctid operator(pg_catalog.=) d.place offset 0
) as t on true
