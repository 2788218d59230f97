-- Removes the id of a person from the captured changes.
-- runs as: extension owner
-- params: id text
update @changes@ c
set ids = array_remove(c.ids, $1)
where c.ids @> array[$1]
