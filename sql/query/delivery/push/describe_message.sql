-- What is known of the message $2 of the subscription $1 beside the message itself: how far the work on
-- it is, the first part of its operation of $3 parts, and the members of all parts.
-- runs as: set owner
-- params: subscription uuid, message bigint, parts integer
-- row: segment text, params jsonb, progress jsonb, first_id bigint, total bigint
select s.name as segment, u.params, d.progress, f.first_id, t.total
from @subscriptions@ u
join @segments@ s on s.id = u.segment_id
join @deliveries@ d on d.subscription_id = u.id
cross join lateral (
    select max(o.id) as first_id
    from @outbox@ o
    where o.subscription_id = u.id and o.part = 1 and o.id <= $2
) f
cross join lateral (
    select sum(p.members)::bigint as total
    from (
        select o.members
        from @outbox@ o
        where o.subscription_id = u.id and o.id >= coalesce(f.first_id, $2)
        order by o.id
        limit $3
    ) p
) t
where u.id = $1
