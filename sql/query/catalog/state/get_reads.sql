-- What the segment $1 was recorded to read.
-- runs as: set owner
-- params: segment uuid
-- row: reads text[], lineage text
select a.reads, a.lineage::text as lineage from @attempts@ a where a.segment_id = $1
