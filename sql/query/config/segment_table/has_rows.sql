-- Whether a table has rows of the segment $1.
-- runs as: segment owner, table owner
-- params: segment uuid
-- row: has_rows boolean
-- @table@: the segment table, e.g. public.vip
select exists (select from only @table@ as t where t.segment_id operator(pg_catalog.=) $1)
