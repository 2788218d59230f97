-- Of the first ten thousand added and changed members, how many have no hash in each of some columns, one
-- after the other, and the id of one of them.
-- runs as: segment owner
-- row: found text[]
-- @counts@: for each column, e.g. (pg_catalog.count(*) filter (where d.n1 is null))::pg_catalog.text
-- @is_none@: whether one of the columns has no hash, e.g. d.n1 is null
select array[@counts@, pg_catalog.min(d.id::pg_catalog.text) filter (where @is_none@)]
from (
    select s.*
    from segmenter_delta as s
    where s.operation operator(pg_catalog.=) any (array['a', 'c']::pg_catalog."char"[])
    limit 10000
) as d
