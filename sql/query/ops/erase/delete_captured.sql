-- Removes the id of a person from the captured changes. What is left without ids goes as a whole: an
-- empty array would mean that changes were pruned.
-- runs as: extension owner
-- params: id text
with emptied as (
    delete from @changes@ c where c.ids @> array[$1] and c.ids <@ array[$1]
)
update @changes@ c
set ids = array_remove(c.ids, $1)
where c.ids @> array[$1] and not c.ids <@ array[$1]
