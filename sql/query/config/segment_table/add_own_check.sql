-- Adds the check constraint that limits a table to the rows of one segment.
-- runs as: set owner
-- @table@: the segment table, e.g. public.free
-- @check@: the name of the constraint, e.g. segmenter_own_segment
-- @segment_id@: the segment, as a literal, e.g. '00000000-0000-0000-0000-000000000000'
alter table @table@ add constraint @check@ check (segment_id = @segment_id@)
