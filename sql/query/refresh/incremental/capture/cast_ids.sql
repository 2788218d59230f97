-- The captured ids of one watched table, in the type of its column.
-- runs as: segment owner
-- row: id text
-- @type@: the type of the ids, e.g. pg_catalog.text
-- @number@: the number of the watched table, e.g. 0
select s.id::@type@ as id from segmenter_captured as s where s.number operator(pg_catalog.=) @number@
