-- The places of the rows of the member $2 of the segment $1, as texts.
-- runs as: table owner
-- params: segment uuid, id text
-- row: places text[]
-- @table@: the segment table, e.g. public.vip
-- @collation@: the collation of the column id, e.g. pg_catalog."default"
select pg_catalog.array_agg(t.ctid::pg_catalog.text) as places
from only @table@ as t
where t.segment_id operator(pg_catalog.=) $1
  and t.id operator(pg_catalog.=) $2::pg_catalog."varchar" collate @collation@
