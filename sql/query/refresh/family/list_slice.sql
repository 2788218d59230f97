-- The rows of one segment of a family, which were read before. It stands where a segment has a query of its own.
-- part of: refresh/delta/received_rows
select s.* from segmenter_family_slice as s
