-- Records how many members the subscriptions $1 have been given: all of a segment's, $2, but those that
-- were left out. $3 is their number with $4, where all members were handed over at $5, otherwise how many
-- more there are.
-- runs as: set owner
-- params: subscriptions uuid[], members bigint[], left_out bigint[], are_all boolean[], now timestamptz
update @handovers@ h
set members = v.members - case when v.are_all then v.left_out else greatest(h.left_out + v.left_out, 0) end,
    left_out = case when v.are_all then v.left_out else greatest(h.left_out + v.left_out, 0) end,
    replaced_at = case when v.are_all then $5 else h.replaced_at end
from unnest($1, $2, $3, $4) v (subscription_id, members, left_out, are_all)
where h.subscription_id = v.subscription_id
  and (
      v.are_all
      or h.members is distinct from v.members - case when v.are_all then v.left_out else greatest(h.left_out + v.left_out, 0) end
      or h.left_out <> case when v.are_all then v.left_out else greatest(h.left_out + v.left_out, 0) end
  )
