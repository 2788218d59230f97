-- Subscriptions with what was handed over to them: those to segments whose owner $1 is a member of,
-- if it is given, to the segment $2, if it is given, or the subscription $3. Ended ones are
-- included, because their end may still have to be handed over. What a segment's refresh hands over
-- does not depend on a role: $1 is for lists that a role asks for.
-- runs as: set owner
-- params: reader oid, segment uuid, subscription uuid
-- row: id uuid, consumer_id uuid, segment_id uuid, segment text, target text, name text, params jsonb, cron text, timezone text, external_id text, consumer text, consumer_params jsonb, is_actual boolean, has_audience boolean, last_fields jsonb, last_filter jsonb, failed_fields jsonb, failed_filter text, members bigint, left_out bigint, segment_owner oid, withheld text, field_types jsonb, held text, is_held_so boolean, handed_audience text, resync_of timestamptz, is_ready boolean, replaced_at timestamptz, has_events boolean, is_lost boolean, is_known boolean
-- @which@: the condition on the segment and the subscription, e.g. u.segment_id = $2
select
    u.id,
    u.consumer_id,
    u.segment_id,
    s.name as segment,
    u.target,
    u.name,
    u.params,
    u.cron,
    u.timezone,
    u.external_id,
    c.name as consumer,
    c.params as consumer_params,
    u.actual_end = 'infinity' and s.actual_end = 'infinity' and c.actual_end = 'infinity' as is_actual,
    coalesce(h.has_audience, false) as has_audience,
    h.fields as last_fields,
    h.filter as last_filter,
    h.failed_fields,
    h.failed_filter,
    h.members,
    coalesce(h.left_out, 0) as left_out,
    s.owner::oid as segment_owner,
    h.withheld,
    h.field_types,
    h.held,
    coalesce(h.held_params = u.params, false) as is_held_so,
    h.audience as handed_audience,
    -- A request of the consumer that was not made yet.
    case when d.resync_requested_at is distinct from h.resync_of then d.resync_requested_at end as resync_of,
    -- The segment was refreshed successfully before.
    coalesce(t.refreshes > 0, false) as is_ready,
    h.replaced_at,
    coalesce(h.has_events, false) as has_events,
    -- The last message was deleted before it was delivered.
    coalesce(
        h.last_message > coalesce(d.delivered_through, 0)
        and not exists (select from @outbox@ o where o.id = h.last_message),
        false
    ) as is_lost,
    -- The consumer has the audience.
    d.audience is not null or u.external_id is not null as is_known
from @subscriptions@ u
join @segments@ s on s.id = u.segment_id
join @consumers@ c on c.id = u.consumer_id
left join @handovers@ h on h.subscription_id = u.id
left join @deliveries@ d on d.subscription_id = u.id
left join @state@ t on t.segment_id = u.segment_id
where ($1::oid is null or pg_has_role($1, s.owner, @membership@))
  -- With $2, $3 or neither.
  and @which@
order by s.name, c.name, u.target, u.id
