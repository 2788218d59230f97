-- Records that the segment $1 has left out the members of other segments, without a refresh: the number $2
-- of members that it lost, the time $3 of the change (null: there was none), what its table holds $4, and
-- how far each of these segments $5 has got (null: as far as before). $6 of the members count as removed: those
-- that a refresh takes with it are counted as its.
-- runs as: set owner
-- params: segment uuid, removed bigint, at timestamp, content jsonb, lists jsonb, counted bigint
update @state@ t
set members = case when t.members < $2 then 0 else t.members - $2 end,
    coverage = case when t.coverage < $2 then 0 else t.coverage - $2 end,
    changed_at = coalesce($3, t.changed_at),
    content = case when $3 is null then t.content else $4 end,
    version = t.version + case when $3 is null then 0 else 1 end,
    losses = t.losses + case when $3 is null then 0 else 1 end,
    lost_at = case when $3 is null then t.lost_at else clock_timestamp() end,
    lists = coalesce($5, t.lists),
    total_removed = t.total_removed + $6
where t.segment_id = $1
