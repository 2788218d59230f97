-- The subscriptions to the segment $1, ended ones too: since when there is one, the condition, whether anything was given
-- to the consumer, the names of all fields that were handed over, whether messages
-- were skipped, the runs whose messages wait, those of them of which the consumer has claimed no members, and whether the log
-- reaches back to the first hand-over. local is the local time of the zone that the statement runs in.
-- runs as: set owner
-- params: segment uuid
-- row: id uuid, consumer text, target text, begun timestamptz, local timestamp, condition text, is_given boolean, fields text[], has_skipped boolean, waiting uuid[], unseen uuid[], is_whole boolean
select
    u.id,
    c.name as consumer,
    u.target,
    u.actual_begin as begun,
    u.actual_begin::timestamp as local,
    u.params ->> 'where' as condition,
    coalesce(greatest(d.delivered_through, d.leased_through) > 0, false) as is_given,
    array(
        select distinct f.name
        from jsonb_array_elements(h.past_fields || jsonb_build_array(h.fields)) p (fields)
        cross join lateral jsonb_each_text(case jsonb_typeof(p.fields) when 'object' then p.fields end) f (field, name)
    ) as fields,
    coalesce(d.skipped_messages > 0, false) as has_skipped,
    array(
        select distinct o.run_id
        from @outbox@ o
        where o.subscription_id = u.id and o.id > coalesce(d.delivered_through, 0) and o.run_id is not null
    ) as waiting,
    array(
        select o.run_id
        from @outbox@ o
        where o.subscription_id = u.id and o.run_id is not null
        group by o.run_id
        having min(o.id) filter (where o.members > 0) > greatest(d.delivered_through, d.leased_through, 0)
    ) as unseen,
    l.is_whole or coalesce((select min(e.processed) from @log@ e) <= u.actual_begin, false) as is_whole
from @subscriptions@ u
join @consumers@ c on c.id = u.consumer_id
left join @deliveries@ d on d.subscription_id = u.id
left join @handovers@ h on h.subscription_id = u.id
cross join (
    select count(*) >= coalesce((select t.refreshes from @state@ t where t.segment_id = $1), 0) as is_whole
    from @log@ e
    where e.segment_id = $1 and e.action = 'refresh' and e.status = 'ok'
) l
where u.segment_id = $1
order by c.name, u.target, u.actual_begin, u.id
