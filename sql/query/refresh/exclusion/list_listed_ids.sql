-- The ids of the relation segmenter_listed.
-- runs as: segment owner
-- row: id text
select l.id from segmenter_listed as l where l.id is not null
