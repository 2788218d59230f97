-- The rows of a family for ids that have changed.
-- runs as: segment owner
-- row: id text, segment text
select s.* from segmenter_family_rows as s
