-- The SQL text that creates a set, with placeholders for names.
-- runs as: extension owner
-- row: definition text
select @schema@.segmenter_definition()
