-- The number of subscriptions to the segment $1 whose consumer has not got all messages, or still
-- has the audience.
-- runs as: set owner
-- params: segment uuid
-- row: subscriptions bigint
select count(*)
from @subscriptions@ u
left join @deliveries@ d on d.subscription_id = u.id
left join @handovers@ h on h.subscription_id = u.id
where u.segment_id = $1
  and (
      h.has_audience
      or exists (
          select from @outbox@ o
          where o.subscription_id = u.id and o.id > coalesce(d.delivered_through, 0)
      )
  )
