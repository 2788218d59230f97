-- The text that makes a set, with places for names.
-- runs as: extension owner
-- row: definition text
select @schema@.segmenter_definition()
