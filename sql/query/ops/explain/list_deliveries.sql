-- The active subscriptions to the segment $1: whether the audience was handed over, what was handed over last (until $2, if
-- that is given), and the messages that wait.
-- runs as: set owner
-- params: segment uuid, at timestamptz
-- row: id uuid, consumer text, target text, has_audience boolean, handed_at timestamptz, operations text, run_id uuid, waiting bigint, delivered_at timestamptz, error text, condition text, held text
select
    u.id,
    c.name as consumer,
    u.target,
    coalesce(h.has_audience, false) as has_audience,
    l.processed as handed_at,
    array_to_string(array(
        select jsonb_array_elements_text(case jsonb_typeof(l.params -> 'operations') when 'array' then l.params -> 'operations' end)
    ), ', ') as operations,
    l.run_id,
    (
        select count(*) from @outbox@ o
        where o.subscription_id = u.id and o.id > coalesce(d.delivered_through, 0)
    ) as waiting,
    d.delivered_at,
    h.error,
    u.params ->> 'where' as condition,
    h.held
from @subscriptions@ u
join @consumers@ c on c.id = u.consumer_id
left join @handovers@ h on h.subscription_id = u.id
left join @deliveries@ d on d.subscription_id = u.id
left join lateral (
    select e.processed, e.params, e.run_id
    from @log@ e
    where e.segment_id = $1 and e.subscription_id = u.id and e.action = 'hand over' and e.status = 'ok'
      and ($2::timestamptz is null or e.processed <= $2)
    order by e.id desc
    limit 1
) l on true
where u.segment_id = $1 and u.actual_end = 'infinity'
order by c.name, u.target
