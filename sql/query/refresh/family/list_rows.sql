-- The rows of a family's query: of each whether it is for one of the segments $1 (k) or for none of them (u), and the
-- number of that segment, by which they are sorted.
-- runs as: segment owner
-- params: names text[]
-- row: segmenter_kind "char", segmenter_number bigint, …
-- @received@: the query, e.g. select 1 as id, 'vip'::text as segment
select
    (case when m.number is null then 'u' else 'k' end)::pg_catalog."char" as segmenter_kind,
    m.number as segmenter_number,
    r.*
from (
@received@
) r
left join pg_catalog.unnest($1) with ordinality m (name, number)
    on m.name operator(pg_catalog.=) (r.segment)::pg_catalog.text collate pg_catalog."C"
order by m.number
