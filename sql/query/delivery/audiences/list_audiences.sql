-- Audiences of consumers (of the consumer $4, if it is given) as Segmenter knows them, compared with what the
-- consumer reported last: of the subscriptions to segments whose owner $1 is a member of (all if it sees
-- their figures, $3), or of consumers whose role (or the set's owner, $2) it is; to members of the latter also
-- those that no subscription has. is_over: the size differs by more than max_drift, and nothing was delivered
-- since, or waits.
-- runs as: set owner
-- params: reader oid, set_owner oid, sees_figures boolean, consumer uuid
-- row: consumer text, target text, segment text, audience text, external_id text, state text, members bigint, size bigint, match_rate numeric, drift numeric, reported_at timestamptz, subscription_id uuid, is_over boolean, heals boolean
with subscription as materialized (
    select
        u.id,
        u.consumer_id,
        u.target,
        u.external_id,
        s.name as segment,
        s.owner,
        coalesce(h.audience, replace(replace(replace(u.name,
            '{{name}}', s.name), '{{consumer}}', c.name), '{{target}}', u.target)) as audience,
        h.members,
        u.actual_end = 'infinity' and s.actual_end = 'infinity' and c.actual_end = 'infinity' as is_actual,
        case jsonb_typeof(u.params -> 'max_drift') when 'number' then (u.params ->> 'max_drift')::numeric end as max_drift,
        u.params @> '{"heal": true}' as heals,
        d.delivered_through,
        d.delivered_at
    from @subscriptions@ u
    join @segments@ s on s.id = u.segment_id
    join @consumers@ c on c.id = u.consumer_id
    left join @handovers@ h on h.subscription_id = u.id
    left join @deliveries@ d on d.subscription_id = u.id
    where ($4::uuid is null or u.consumer_id = $4) and (h.has_audience or u.external_id is not null)
), entry as materialized (
    select r.consumer_id, e.place, e.external_id, e.name, e.target, e.size, e.match_rate
    from @reports@ r
    cross join lateral rows from (
        jsonb_to_recordset(r.audiences) as (external_id text, name text, target text, size bigint, match_rate numeric)
    ) with ordinality e (external_id, name, target, size, match_rate, place)
    where $4::uuid is null or r.consumer_id = $4
), candidate as materialized (
    select u.id as subscription_id, e.consumer_id, e.place, e.target, 1 as rank
    from subscription u
    join entry e on e.consumer_id = u.consumer_id and e.external_id = u.external_id
    where e.target is null or e.target = u.target
    union all
    -- A consumer that gives no ids knows audiences by their names.
    select u.id, e.consumer_id, e.place, e.target, n.rank
    from subscription u
    cross join (values (2), (3)) n (rank)
    join entry e on e.consumer_id = u.consumer_id
        and case n.rank when 2 then e.name else e.external_id end = u.audience
    where u.external_id is null and (e.target is null or e.target = u.target)
), chosen as (
    select distinct on (k.subscription_id) k.subscription_id, k.consumer_id, k.place
    from candidate k
    order by k.subscription_id, k.rank, k.target, k.place
), audience as (
    select
        u.id as subscription_id,
        u.consumer_id,
        u.target,
        u.segment,
        u.owner,
        u.audience,
        coalesce(u.external_id, e.external_id) as external_id,
        case
            when k.place is not null then 'known'
            when u.id = any (r.expected) then 'missing'
            else 'unreported'
        end as state,
        u.members,
        e.size,
        e.match_rate,
        u.max_drift,
        u.heals,
        coalesce(u.delivered_at <= r.reported_at, true) and not exists (
            select from @outbox@ o
            where o.subscription_id = u.id and o.id > coalesce(u.delivered_through, 0)
        ) as is_settled
    from subscription u
    left join @reports@ r on r.consumer_id = u.consumer_id
    left join chosen k on k.subscription_id = u.id
    left join entry e on e.consumer_id = k.consumer_id and e.place = k.place
    where u.is_actual or k.place is not null
    union all
    select null, e.consumer_id, e.target, null, null, e.name, e.external_id, 'foreign', null, e.size, e.match_rate,
        null, false, false
    from entry e
    where not exists (select from candidate k where k.consumer_id = e.consumer_id and k.place = e.place)
)
select
    c.name::text as consumer,
    a.target,
    a.segment,
    a.audience,
    a.external_id,
    a.state,
    a.members,
    a.size,
    -- Of no members no share is known.
    coalesce(a.match_rate, case when a.size < a.members then round(a.size::numeric / a.members, 4) when a.members > 0 and a.size is not null then 1 end) as match_rate,
    round(f.drift, 4) as drift,
    r.reported_at,
    a.subscription_id,
    coalesce(a.is_settled and f.drift > a.max_drift, false) as is_over,
    a.heals
from audience a
join @consumers@ c on c.id = a.consumer_id
left join @reports@ r on r.consumer_id = a.consumer_id
cross join lateral (select abs(a.size - a.members)::numeric / greatest(a.members, 1) as drift) f
where coalesce(pg_has_role($1, c.role, @membership@), false) or pg_has_role($1, $2, @membership@)
   or a.subscription_id is not null and ($3 or pg_has_role($1, a.owner, @membership@))
order by c.name, a.target, a.audience, a.external_id, a.subscription_id
