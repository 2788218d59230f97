-- The beginning of an id that was too long to be stored.
-- runs as: segment owner
-- row: long_id text
select d.id
from segmenter_delta as d
where d.operation operator(pg_catalog.=) 'l'::pg_catalog."char"
order by d.id
limit 1
