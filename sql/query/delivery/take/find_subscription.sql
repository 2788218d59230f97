-- The subscription of the consumer $1 to the segment $2 for the target $3: the active one, otherwise the one
-- that ended last.
-- runs as: set owner
-- params: consumer uuid, segment text, target text
-- row: id uuid
select u.id
from @subscriptions@ u
join @segments@ s on s.id = u.segment_id
where u.consumer_id = $1 and s.name = $2 and u.target = $3
order by u.actual_end desc, s.actual_end desc, u.id
limit 1
