-- The active subscriptions to segments that rules of alerts cover whose deliveries are looked at: whether their
-- messages are stuck or could not be written, and since when the first one could be delivered. Why, is for rules of
-- roles that may act for the consumer, or as the segment's owner.
-- runs as: set owner
-- row: alert_id uuid, segment_id uuid, subscription_id uuid, consumer text, target text, problem text, available_at timestamptz
select
    r.id as alert_id,
    s.id as segment_id,
    u.id as subscription_id,
    c.name as consumer,
    u.target,
    case
        when u.status = 'failed' and pg_has_role(r.owner, c.role, @membership@) then coalesce(d.last_error, '')
        when u.status = 'failed' then 'members of the consumer''s role can see why'
        when h.failed_fields is not null then coalesce(h.error, '')
    end as problem,
    head.available_at
from @alerts@ r
join @consumers@ o on o.id = r.consumer_id and o.actual_end = 'infinity'
join @segments@ s on pg_has_role(r.owner, s.owner, @membership@)
    and (jsonb_typeof(r.rule -> 'segments') is distinct from 'array' or r.rule -> 'segments' ? s.name)
join @subscriptions@ u on u.segment_id = s.id and u.actual_end = 'infinity'
join @consumers@ c on c.id = u.consumer_id and c.actual_end = 'infinity'
left join @deliveries@ d on d.subscription_id = u.id
left join @handovers@ h on h.subscription_id = u.id
left join lateral (
    -- By the index of subscriptions, whatever is estimated: that of ids would read the messages of all others.
    select m.subscription_id, m.available_at
    from @outbox@ m
    where (m.subscription_id, m.id) > (u.id, coalesce(d.delivered_through, 0))
    order by m.subscription_id, m.id
    limit 1
) head on head.subscription_id = u.id and not u.params @> '{"mode": "events", "paused": true}'
where r.actual_end = 'infinity' and r.owner::oid <> 0 and s.actual_end = 'infinity' and r.rule ->> 'on' ~ 'delivery|drift'
order by c.name, u.target
