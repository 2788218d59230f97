-- How many active and how many ended subscriptions the segment $1 or the consumer $2 has.
-- runs as: set owner
-- params: segment uuid, consumer uuid
-- row: counts bigint[]
select array[
    count(*) filter (where u.actual_end = 'infinity'),
    count(*) filter (where u.actual_end <> 'infinity')
]
from @subscriptions@ u
where u.segment_id = $1 or u.consumer_id = $2
