-- The changed ids, each once by the equality of its type: ids can be equal and differ as text.
-- runs as: segment owner
-- row: id text
select s.id from segmenter_ids as s group by s.id
