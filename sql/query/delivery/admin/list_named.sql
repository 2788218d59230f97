-- The subscriptions of the consumer $1 to the segment $2 for the target $3: the active one first, then
-- those that ended last.
-- runs as: set owner
-- params: consumer text, segment text, target text
-- row: ids uuid[]
select array_agg(u.id order by u.actual_end desc, c.actual_end desc, s.actual_end desc)
from @subscriptions@ u
join @consumers@ c on c.id = u.consumer_id
join @segments@ s on s.id = u.segment_id
where c.name = $1 and s.name = $2 and u.target = $3
