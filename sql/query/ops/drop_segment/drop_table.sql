-- Drops the table of a segment that was deleted.
-- @table@: the table, e.g. public.vip
-- runs as: caller
drop table @table@
