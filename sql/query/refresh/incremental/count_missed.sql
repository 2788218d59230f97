-- The number of changed members that a full pass found and that are not among the recently changed
-- ids.
-- runs as: segment owner
-- row: missed bigint
select pg_catalog.count(*)
from segmenter_delta as d
where d.operation operator(pg_catalog.=) any (array['a', 'r', 'c']::pg_catalog."char"[])
  and not exists (
    select
    from segmenter_recent as s
    where (s.id)::pg_catalog.text collate pg_catalog."C" operator(pg_catalog.=) d.id
  )
