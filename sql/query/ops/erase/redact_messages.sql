-- Removes members from the messages of the subscriptions $1: those that contain the JSON object at the
-- same place of $2. Returns the removed members of messages that were not delivered yet, as JSON texts,
-- with their names.
-- runs as: set owner
-- params: subscriptions uuid[], probes text[]
-- row: subscription_id uuid, member text, names text[]
with sought as (
    select p.subscription_id, array_agg(p.probe::jsonb) as probes
    from unnest($1::uuid[], $2::text[]) p (subscription_id, probe)
    group by p.subscription_id
), hit as (
    select
        o.id,
        o.subscription_id,
        o.id > d.delivered_through as is_pending,
        coalesce(m.kept, '[]') as kept,
        m.taken
    from sought s
    join @deliveries@ d on d.subscription_id = s.subscription_id
    join @outbox@ o on o.subscription_id = s.subscription_id
    cross join lateral (
        select
            jsonb_agg(e.member order by e.place) filter (where not e.is_hit) as kept,
            jsonb_agg(e.member) filter (where e.is_hit) as taken
        from (
            select a.member, a.place, a.member @> any (s.probes) as is_hit
            from jsonb_array_elements(
                case when jsonb_typeof(o.payload -> 'members') = 'array' then o.payload -> 'members' else '[]' end
            ) with ordinality a (member, place)
        ) e
    ) m
    where m.taken is not null
), changed as (
    update @outbox@ o
    set payload = jsonb_set(o.payload, '{members}', h.kept), members = jsonb_array_length(h.kept)
    from hit h
    where o.id = h.id
)
select distinct
    h.subscription_id,
    t.member::text as member,
    case when jsonb_typeof(t.member) = 'object' then array(select jsonb_object_keys(t.member)) end as names
from hit h
cross join lateral jsonb_array_elements(h.taken) t (member)
where h.is_pending
