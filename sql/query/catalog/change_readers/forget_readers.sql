-- Deletes how far the segment $2 of the set $1 has read, or each segment of the set.
-- runs as: extension owner
-- params: mart oid, segment uuid
delete from @change_readers@ r
where r.mart = $1 and ($2::uuid is null or r.segment_id = $2)
