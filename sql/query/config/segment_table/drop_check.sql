-- Drops a check that lets no row into the table.
-- runs as: set owner
-- @table@: the segment table, e.g. public.free
-- @check@: the name of the constraint, e.g. segmenter_own_segment
alter table @table@ drop constraint if exists @check@
