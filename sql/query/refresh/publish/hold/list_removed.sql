-- The members that the delta removes.
-- runs as: set owner
-- row: operation "char", id text
select d.operation, d.id
from segmenter_delta as d
where d.operation operator(pg_catalog.=) 'r'::pg_catalog."char"
