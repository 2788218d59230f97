-- What is known of the message $2 of the subscription $1 beside the message itself: how far the work on
-- it is; and of its operation, as far as its messages are left: the first one, the members of all, and the
-- last message before it. Delivered messages may be deleted.
-- runs as: set owner
-- params: subscription uuid, message bigint
-- row: segment text, params jsonb, progress jsonb, first_id bigint, after_id bigint, total bigint
select coalesce(s.name, m.payload #>> '{segment,name}') as segment, u.params, d.progress, p.first_id,
    case when p.first_part = 1 then p.first_id - 1 else b.id end as after_id, p.total
from @subscriptions@ u
left join @outbox@ m on m.id = $2 and m.subscription_id = u.id
left join @segments@ s on s.id = u.segment_id
join @deliveries@ d on d.subscription_id = u.id
cross join lateral (
    select coalesce(max(o.id), 0) as id
    from @outbox@ o
    where o.subscription_id = u.id and o.id < $2 and o.part = o.parts
) b
cross join lateral (
    select min(o.id) as first_id, min(o.part) as first_part, sum(o.members)::bigint as total
    from @outbox@ o
    where o.subscription_id = u.id and o.id > b.id and o.id <= (
        select min(l.id) from @outbox@ l where l.subscription_id = u.id and l.id >= $2 and l.part = l.parts
    )
) p
where u.id = $1
