-- The active subscriptions that need attention, to segments whose owner $1 is a member of (all if it sees
-- their figures, $3): failed, not handed over, or with a message that has been waiting for a day, or with
-- changes that are held back, or whose messages were deleted before they were delivered; and those that are
-- paused. Of those that have ended, the failed ones, and those whose messages were deleted. What the
-- consumer answered is for members of its role (or of the set's owner, $2), why members could not be handed
-- over for those of the segment's owner.
-- runs as: set owner
-- params: reader oid, set_owner oid, sees_figures boolean
-- row: consumer text, target text, segment text, what text, detail text
select c.name::text as consumer, u.target::text, s.name::text as segment, p.what, p.detail
from @subscriptions@ u
join @segments@ s on s.id = u.segment_id
join @consumers@ c on c.id = u.consumer_id
left join @deliveries@ d on d.subscription_id = u.id
left join lateral (
    select o.available_at
    from @outbox@ o
    where o.subscription_id = u.id and o.id > coalesce(d.delivered_through, 0)
    order by o.id
    limit 1
) head on true
left join @handovers@ h on h.subscription_id = u.id
cross join lateral (
    select u.actual_end = 'infinity' and s.actual_end = 'infinity' and c.actual_end = 'infinity' as is_actual
) a
cross join lateral (
    select case when a.is_actual then 'failed' else 'end' end as what,
        case
            when pg_has_role($1, $2, @membership@) or pg_has_role($1, c.role, @membership@) then coalesce(d.last_error, '')
            else 'members of the consumer''s role can see why'
        end as detail
    where u.status = 'failed'
    union all
    select 'broken',
        case
            when pg_has_role($1, s.owner, @membership@) then coalesce(h.error, '')
            else 'members of the owner''s role can see why'
        end
    where h.failed_fields is not null
    union all
    select case when coalesce(h.has_events, false) then 'lost events' else 'lost' end, ''
    where h.last_message > coalesce(d.delivered_through, 0) and not exists (select from @outbox@ o where o.id = h.last_message)
    union all
    select 'late', to_char(head.available_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"')
    where u.status <> 'failed' and head.available_at < now() - interval '1 day'
      and not u.params @> '{"mode": "events", "paused": true}'
    union all
    select 'paused', ''
    where u.params -> 'paused' = 'true'
    union all
    -- A new audience that waits until it has enough members lacks nothing.
    select case when h.withheld is null then 'small' else 'held' end, h.held
    where h.held_params = u.params and u.params -> 'paused' is distinct from 'true' and h.held is not null
) p
where ($3 or pg_has_role($1, s.owner, @membership@)) and (u.actual_end = 'infinity' or p.what in ('end', 'lost'))
order by c.name, u.target, s.name
