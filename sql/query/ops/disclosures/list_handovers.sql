-- What was handed over of the segment $1, in order, and audiences that were taken whole (is_take): the names of the
-- fields, and the condition that was used. local is the local time of the zone that the statement runs in. The
-- consumer of a subscription that does not exist any more is that of its deliveries.
-- runs as: set owner
-- params: segment uuid
-- row: subscription uuid, consumer text, target text, run_id uuid, at timestamptz, local timestamp, operations text[], fields text[], condition text, is_take boolean
select
    l.subscription_id as subscription,
    coalesce(c.name, (
        select d.params ->> 'consumer'
        from @log@ d
        where d.segment_id = $1 and d.subscription_id = l.subscription_id and d.action = 'deliver'
          and d.params ? 'consumer'
        order by d.id desc
        limit 1
    )) as consumer,
    l.target,
    l.run_id,
    l.processed as at,
    l.processed::timestamp as local,
    array(
        select jsonb_array_elements_text(case jsonb_typeof(l.params -> 'operations') when 'array' then l.params -> 'operations' end)
    ) as operations,
    array(
        select f.name
        from jsonb_each_text(case jsonb_typeof(l.params -> 'fields') when 'object' then l.params -> 'fields' end) f (field, name)
        union all
        select jsonb_array_elements_text(case jsonb_typeof(l.params -> 'fields') when 'array' then l.params -> 'fields' end)
    ) as fields,
    l.params ->> 'where' as condition,
    l.action = 'deliver' as is_take
from @log@ l
left join @subscriptions@ u on u.id = l.subscription_id
left join @consumers@ c on c.id = u.consumer_id
where l.segment_id = $1 and l.status = 'ok' and l.subscription_id is not null
  and (
      l.action = 'hand over' and jsonb_typeof(l.params -> 'operations') = 'array'
      or l.action = 'deliver' and l.params @> '{"operation": "take", "changes": false}' and not l.params ? 'ended'
  )
order by l.id
