-- Adds columns to a segment table. Another session may have added them meanwhile.
-- runs as: table owner
-- @table@: the table, e.g. public.vip
-- @columns@: the columns, e.g. add column if not exists city text
alter table @table@ @columns@
