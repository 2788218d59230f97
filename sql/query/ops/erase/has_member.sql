-- Whether the table still has rows of the member $2 of the segment $1.
-- runs as: table owner
-- params: segment uuid, id text
-- row: has_rows boolean
-- @table@: the segment table, e.g. public.vip
-- @collation@: the collation of the column id, e.g. pg_catalog."default"
select exists (
    select
    from only @table@ as t
    where t.segment_id operator(pg_catalog.=) $1
      and t.id operator(pg_catalog.=) $2::pg_catalog."varchar" collate @collation@
)
