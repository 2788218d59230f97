-- The names that rows of a family have and no segment of it has, with the number of rows.
-- runs as: segment owner
-- row: name text, number bigint
select u.name, pg_catalog.count(*) as number
from segmenter_family_rows r
cross join lateral (select (r.segment)::pg_catalog.text collate pg_catalog."C" as name) u
where r.segmenter_kind operator(pg_catalog.=) 'u'
group by u.name
order by pg_catalog.count(*) desc, u.name
