-- All ids of a watched table.
-- runs as: segment owner
-- row: …
-- @column@: the column of ids, e.g. id
-- @table@: the watched table, e.g. public.vip
select t.@column@ as id from @table@ as t
