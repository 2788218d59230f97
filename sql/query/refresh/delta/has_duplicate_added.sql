-- Whether a new key was received more than once.
-- runs as: segment owner
-- row: has_duplicate boolean
select exists (
    select from segmenter_delta as d
    where d.operation operator(pg_catalog.=) 'a'::pg_catalog."char"
    group by d.id
    having pg_catalog.count(*) operator(pg_catalog.>) 1
)
