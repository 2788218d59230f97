-- The ids of these rows, each once.
-- runs as: caller
-- row: id text
-- @rows@: the relation of rows, e.g. (select 'a' as id)
select distinct p.id from @rows@ as p where p.id is not null
