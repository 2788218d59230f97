-- The ids of added and changed members of the relation segmenter_delta that the segment $1, whose members
-- are left out, has too.
-- runs as: table owner
-- params: list uuid
-- row: id text
-- @table@: the table of the list, e.g. public.vip
-- @column@: the column of the list, e.g. (t.hash_email)::pg_catalog.text collate pg_catalog."C"
-- @value@: the value in the delta, e.g. (d.n1)::pg_catalog.text collate pg_catalog."C"
select d.id
from segmenter_delta as d
where d.operation operator(pg_catalog.=) any (array['a', 'c']::pg_catalog."char"[])
  and exists (
    select
    from only @table@ as t
    where t.segment_id operator(pg_catalog.=) $1
      and t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp
      and @column@ operator(pg_catalog.=) @value@
  )
