-- The ids of those members of the segments $2 that a query does not return.
-- runs as: segment owner
-- params: since timestamptz, segments uuid[]
-- row: ids text[]
-- @query@: the query of changed ids, e.g. select '1'::text as id where $1 is not null
-- @table@: the segment table, e.g. public.vip
select pg_catalog.array_agg((t.id)::pg_catalog.text)
from only @table@ as t
where t.segment_id operator(pg_catalog.=) any ($2)
  and t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp
  and not exists (
    select
    from (
@query@
    ) as s
    where (s.id)::pg_catalog.text collate pg_catalog."C" operator(pg_catalog.=) (t.id)::pg_catalog.text
  )
