-- The members of the audience that the delta removes, without those with the ids $1.
-- runs as: set owner
-- params: ids text[]
-- row: operation "char", id text
select a.operation, a.id
from segmenter_audience as a
where a.operation operator(pg_catalog.=) 'r'::pg_catalog."char"
  and (a.id operator(pg_catalog.=) any ($1)) is not true
