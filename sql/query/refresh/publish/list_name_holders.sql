-- Other subscriptions of the same consumer and target as the subscription $1 that have an audience with
-- the name $2 at the consumer, by what was handed over last; they come first that ended first.
-- runs as: set owner
-- params: subscription uuid, audience text
-- row: id uuid, segment_id uuid, segment text
select u.id, u.segment_id, s.name as segment
from @subscriptions@ k
join @subscriptions@ u on u.consumer_id = k.consumer_id and u.target = k.target and u.id <> k.id
join @handovers@ h on h.subscription_id = u.id
join @segments@ s on s.id = u.segment_id
join @consumers@ c on c.id = u.consumer_id
where k.id = $1 and h.has_audience
  and coalesce(h.audience, replace(replace(replace(u.name,
      '{{name}}', s.name), '{{consumer}}', c.name), '{{target}}', u.target)) = $2
order by u.actual_end, u.id
