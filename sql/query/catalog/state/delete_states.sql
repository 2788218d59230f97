-- Deletes the states of segments that no longer exist: of the segment $1, or of all.
-- runs as: set owner
-- params: segment uuid
delete from @state@ t
where ($1::uuid is null or t.segment_id = $1)
  and not exists (select from @segments@ s where s.id = t.segment_id)
