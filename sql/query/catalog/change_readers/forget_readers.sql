-- Forgets how far segments have read that read no longer: the segment $2 of the set $1, or all of this
-- set, or all of sets that do not exist any more.
-- runs as: extension owner
-- params: mart oid, segment uuid
delete from @change_readers@ r
where r.mart = $1 and ($2::uuid is null or r.segment_id = $2)
   or not exists (select from @registry@ s where s.mart = r.mart)
