-- A value of each added and changed member of the relation segmenter_delta.
-- runs as: segment owner
-- row: values text[]
-- @value@: the value, e.g. (d.n1)::pg_catalog.text
select pg_catalog.array_agg(@value@ order by d.id)
from segmenter_delta as d
where d.operation operator(pg_catalog.=) any (array['a', 'c']::pg_catalog."char"[])
