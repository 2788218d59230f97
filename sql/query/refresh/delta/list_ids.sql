-- The ids of the relation `changed`.
-- runs as: segment owner
-- row: id text
select s.id from changed as s
