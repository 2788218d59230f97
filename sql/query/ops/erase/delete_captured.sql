-- The person's id among captured changes.
-- runs as: extension owner
-- params: id text
update @changes@ c
set ids = array_remove(c.ids, $1)
where c.ids @> array[$1]
