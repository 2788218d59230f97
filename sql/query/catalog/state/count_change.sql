-- Counts a hand-over or, with $2, an erasure of the segment $1. The number of members and their
-- content are unknown after an erasure.
-- runs as: set owner
-- params: segment uuid, is_erasure boolean
insert into @state@ as t (segment_id, version)
values ($1, 1)
on conflict (segment_id) do update set
    version = t.version + 1,
    members = case when $2 then null else t.members end,
    content = case when $2 then null else t.content end
