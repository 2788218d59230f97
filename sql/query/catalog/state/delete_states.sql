-- Deletes the states and attempts of segments that no longer exist: of the segment $1, or of all.
-- runs as: set owner
-- params: segment uuid
with attempts as (
    delete from @attempts@ a
    where ($1::uuid is null or a.segment_id = $1)
      and not exists (select from @segments@ s where s.id = a.segment_id)
)
delete from @state@ t
where ($1::uuid is null or t.segment_id = $1)
  and not exists (select from @segments@ s where s.id = t.segment_id)
