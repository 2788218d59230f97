-- What was handed over of the segment $1, in order: all members, changes, or the end of the audience; condition is the
-- one that was used. local is the local time of the zone that the statement runs in.
-- runs as: set owner
-- params: segment uuid
-- row: run_id uuid, at timestamptz, local timestamp, consumer text, target text, operations text, reason text, condition text
select
    l.run_id,
    l.processed as at,
    l.processed::timestamp as local,
    coalesce(c.name, '') as consumer,
    l.target,
    array_to_string(array(select jsonb_array_elements_text(l.params -> 'operations')), ', ') as operations,
    l.reason,
    l.params ->> 'where' as condition
from @log@ l
left join @subscriptions@ u on u.id = l.subscription_id
left join @consumers@ c on c.id = u.consumer_id
where l.segment_id = $1 and l.action = 'hand over' and l.status = 'ok' and l.subscription_id is not null
  and jsonb_typeof(l.params -> 'operations') = 'array'
order by l.id
