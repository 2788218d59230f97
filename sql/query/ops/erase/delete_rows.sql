-- Deletes the rows of the member $2 of the segment $1. Returns for each row its id and its contacts.
-- runs as: table owner
-- params: segment uuid, id text
-- row: id text, contacts text[]
-- @table@: the segment table, e.g. public.vip
-- @collation@: the collation of the column id, e.g. pg_catalog."default"
-- @contacts@: the contacts, as far as the table has them, e.g. t.hash_email::pg_catalog.text
delete from only @table@ as t
where t.segment_id operator(pg_catalog.=) $1
  and t.id operator(pg_catalog.=) $2::pg_catalog."varchar" collate @collation@
returning t.id::pg_catalog.text as id, array[@contacts@]::pg_catalog.text[] as contacts
