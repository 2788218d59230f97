-- Records that the subscriptions $1 have been given the numbers $2 of messages with so many members, or events,
-- $3, which an erasure wrote: it is not known how many members they have, since messages ask them to remove
-- some that they may not have had.
-- runs as: set owner
-- params: subscriptions uuid[], messages bigint[], handed_over bigint[]
update @handovers@ h
set members = null,
    messages_written = h.messages_written + v.messages,
    members_handed_over = h.members_handed_over + v.handed_over,
    last_message = coalesce((select max(o.id) from @outbox@ o where o.subscription_id = h.subscription_id), h.last_message)
from unnest($1, $2, $3) v (subscription_id, messages, handed_over)
where h.subscription_id = v.subscription_id
