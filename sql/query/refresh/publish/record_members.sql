-- Records what the subscriptions $1 have been given: the number of messages $6 with so many members, or events,
-- $7; and how many members they have now: all of a segment's, $2 (null: as many as before), but those that were
-- left out. $3 is their number with $4, where all members were handed over at $5, otherwise how many more
-- there are.
-- runs as: set owner
-- params: subscriptions uuid[], members bigint[], left_out bigint[], are_all boolean[], now timestamptz, messages bigint[], handed_over bigint[]
update @handovers@ h
set members = case
        when v.members is null then h.members
        else v.members - case when v.are_all then v.left_out else greatest(h.left_out + v.left_out, 0) end
    end,
    left_out = case
        when v.members is null then h.left_out
        when v.are_all then v.left_out
        else greatest(h.left_out + v.left_out, 0)
    end,
    replaced_at = case when v.are_all then $5 else h.replaced_at end,
    messages_written = h.messages_written + v.messages,
    members_handed_over = h.members_handed_over + v.handed_over,
    last_message = case
        when v.messages > 0 then (select max(o.id) from @outbox@ o where o.subscription_id = h.subscription_id)
        else h.last_message
    end
from unnest($1, $2, $3, $4, $6, $7) v (subscription_id, members, left_out, are_all, messages, handed_over)
where h.subscription_id = v.subscription_id
  and (
      v.messages > 0
      or v.are_all
      or v.members is not null and (
          h.members is distinct from v.members - greatest(h.left_out + v.left_out, 0)
          or h.left_out <> greatest(h.left_out + v.left_out, 0)
      )
  )
