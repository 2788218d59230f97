-- The removed and changed members with their old values, read from the places that were located,
-- in the order of the table. Each row is looked up by its place: there are too few of them for a join
-- with the whole table. The operation x marks a row that was matched with another key by a
-- collision.
-- runs as: segment owner
-- row: operation "char", id text, …, place tid
-- @values@: new and old values, each after a comma, e.g. , d.n1, t.hash_email as o1
-- @table@: the segment table, e.g. public.vip
select
    case when t.id is null or d.id operator(pg_catalog.<>) t.id::pg_catalog.text then 'x' else d.operation end as operation,
    coalesce(d.id, t.id::pg_catalog.text) collate pg_catalog."C" as id@values@, d.place
from (select m.* from segmenter_located as m order by m.place) as d
left join lateral (
    select s.* from only @table@ as s where s.ctid operator(pg_catalog.=) d.place offset 0
) as t on true
