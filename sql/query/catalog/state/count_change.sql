-- Counts a hand-over without a refresh, or an erasure that has deleted $2 members, of the segment $1. $3 is what
-- its table holds now; null: as before, or not known.
-- runs as: set owner
-- params: segment uuid, erased bigint, content jsonb
insert into @state@ as t (segment_id, version)
values ($1, 1)
on conflict (segment_id) do update set
    version = t.version + 1,
    members = greatest(t.members - $2, 0),
    content = coalesce($3, t.content)
