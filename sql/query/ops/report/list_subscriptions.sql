-- The active subscriptions to the segments $1, with the messages that wait and since when, or why changes are held
-- back.
-- runs as: set owner
-- params: segments uuid[]
-- row: consumer text, target text, segment text, status text, messages bigint, since text, seconds bigint, held text
select
    c.name as consumer,
    u.target,
    s.name as segment,
    u.status,
    o.messages,
    to_char(o.since, 'YYYY-MM-DD HH24:MI') as since,
    extract(epoch from now() - o.since)::bigint as seconds,
    case
        when u.params -> 'paused' = 'true' then 'it is paused'
        when h.held_params = u.params then h.held
    end as held
from @subscriptions@ u
join @segments@ s on s.id = u.segment_id
join @consumers@ c on c.id = u.consumer_id
left join @deliveries@ d on d.subscription_id = u.id
left join @handovers@ h on h.subscription_id = u.id
cross join lateral (
    select count(*) as messages, min(o.available_at) as since
    from @outbox@ o
    where o.subscription_id = u.id and o.id > coalesce(d.delivered_through, 0)
) o
where u.segment_id = any ($1) and u.actual_end = 'infinity'
order by o.since, c.name, u.target, s.name
