-- Deletes the rows of the member $2 of the segment $1. Returns for each row whether it was current,
-- and its hashes.
-- runs as: table owner
-- params: segment uuid, id text
-- row: is_actual boolean, hash_email text, hash_phone text
-- @table@: the segment table, e.g. public.vip
-- @collation@: the collation of the column id, e.g. pg_catalog."default"
delete from only @table@ as t
where t.segment_id operator(pg_catalog.=) $1
  and t.id operator(pg_catalog.=) $2::pg_catalog."varchar" collate @collation@
returning
    t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp as is_actual,
    t.hash_email::pg_catalog.text as hash_email,
    t.hash_phone::pg_catalog.text as hash_phone
