-- Removes the members that contain one of $2 from the messages of the subscription $1. Returns the
-- removed members of messages that were not delivered yet.
-- runs as: set owner
-- params: subscription uuid, probes jsonb
-- row: members jsonb
with hit as (
    select
        o.id,
        o.id > d.delivered_through as is_pending,
        coalesce(m.kept, '[]') as kept,
        m.taken
    from @outbox@ o
    join @deliveries@ d on d.subscription_id = o.subscription_id
    cross join lateral (
        select
            jsonb_agg(e.member order by e.place) filter (where not e.is_hit) as kept,
            jsonb_agg(e.member) filter (where e.is_hit) as taken
        from (
            select a.member, a.place, exists (
                select from jsonb_array_elements($2) p (probe) where a.member @> p.probe
            ) as is_hit
            from jsonb_array_elements(o.payload -> 'members') with ordinality a (member, place)
        ) e
    ) m
    where o.subscription_id = $1 and m.taken is not null
), changed as (
    update @outbox@ o
    set payload = jsonb_set(o.payload, '{members}', h.kept), members = jsonb_array_length(h.kept)
    from hit h
    where o.id = h.id
)
select jsonb_agg(distinct t.member)
from hit h
cross join lateral jsonb_array_elements(h.taken) t (member)
where h.is_pending
