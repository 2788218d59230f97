-- Makes a table a child of the mart.
-- runs as: set owner
-- @table@: the segment table, e.g. public.free
alter table @table@ inherit @mart@
