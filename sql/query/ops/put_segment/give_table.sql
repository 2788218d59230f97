-- Gives the table of a segment to another role.
-- runs as: caller
-- @table@: the table, e.g. public.vip
-- @owner@: the role, e.g. current_user
alter table @table@ owner to @owner@
