-- Counts a hand-over without a refresh, or an erasure that has deleted $2 members, of the segment $1. $3 is what
-- its table holds now; null: as before, or not known. A number of members that is not known stays so.
-- runs as: set owner
-- params: segment uuid, erased bigint, content jsonb
insert into @state@ as t (segment_id, version)
values ($1, 1)
on conflict (segment_id) do update set
    version = t.version + 1,
    members = case when t.members < $2 then 0 else t.members - $2 end,
    content = coalesce($3, t.content)
