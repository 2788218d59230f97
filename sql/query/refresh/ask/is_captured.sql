-- Whether the id $1 is among the captured ones.
-- runs as: extension owner
-- params: id text
-- row: is_captured boolean
select exists (select from segmenter_captured c where c.id = $1) as is_captured
