-- The changed ids whose texts differ but that are equal in their own type, once.
-- runs as: segment owner
-- row: id text
select s.id from segmenter_ids as s group by s.id
