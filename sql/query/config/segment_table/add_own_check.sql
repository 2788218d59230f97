-- Adds the check that a table holds rows of one segment only.
-- runs as: set owner
-- @table@: the segment table, e.g. public.free
-- @check@: the name of the constraint, e.g. segmenter_own_segment
-- @segment_id@: the segment, as a literal, e.g. '00000000-0000-0000-0000-000000000000'
alter table @table@ add constraint @check@ check (segment_id = @segment_id@)
