-- The person's id among captured changes.
update @changes@ c
set ids = array_remove(c.ids, $1)
where c.ids @> array[$1]
