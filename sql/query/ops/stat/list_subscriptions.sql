-- The figures of the active subscriptions since the last reset of each: of those to segments whose owner $1 is
-- a member of, or to consumers whose role (or the set's owner, $2) it is a member of; or of all, if $1 is null; of those
-- to segments $3, if these are given. What is going on does not depend on resets. With $4, totals are the figures since
-- the subscription was created, which a reset records.
-- runs as: set owner
-- params: reader oid, set_owner oid, segments uuid[], with_totals boolean
-- row: id uuid, segment_id uuid, consumer text, segment text, target text, messages_written bigint, messages_delivered bigint, members_handed_over bigint, attempts bigint, failed bigint, failures_in_a_row bigint, lag interval, stats_reset timestamptz, totals text
select
    u.id,
    s.id as segment_id,
    c.name as consumer,
    s.name as segment,
    u.target,
    f.messages_written,
    f.messages_delivered,
    f.members_handed_over,
    f.attempts,
    f.failed,
    coalesce(d.failures_in_a_row, 0) as failures_in_a_row,
    case
        when w.available_at <= clock_timestamp() then clock_timestamp() - w.available_at
        when w.available_at is not null then interval '0'
    end as lag,
    r.reset_at as stats_reset,
    case when $4 then jsonb_build_object(
        'messages_written', h.messages_written, 'messages_delivered', d.messages_delivered,
        'members_handed_over', h.members_handed_over, 'attempts', d.attempts_made, 'failed', d.attempts_failed
    )::text end as totals
from @subscriptions@ u
join @segments@ s on s.id = u.segment_id
join @consumers@ c on c.id = u.consumer_id
left join @deliveries@ d on d.subscription_id = u.id
left join @handovers@ h on h.subscription_id = u.id
-- Messages are delivered in order, so that the others wait for the first one.
left join lateral (
    select o.available_at
    from @outbox@ o
    where o.subscription_id = u.id and o.id > coalesce(d.delivered_through, 0)
    order by o.id
    limit 1
) w on true
left join (
    select distinct on (n.subscription_id) n.subscription_id, n.reset_at, n.base
    from @counts@ n
    where n.status is null and n.subscription_id is not null
    order by n.subscription_id, n.reset_at desc, n.id
) r on r.subscription_id = u.id
left join lateral jsonb_to_record(r.base) b (
    messages_written bigint, messages_delivered bigint, members_handed_over bigint, attempts bigint, failed bigint
) on true
cross join lateral (
    select
        coalesce(h.messages_written, 0) - coalesce(b.messages_written, 0) as messages_written,
        coalesce(d.messages_delivered, 0) - coalesce(b.messages_delivered, 0) as messages_delivered,
        coalesce(h.members_handed_over, 0) - coalesce(b.members_handed_over, 0) as members_handed_over,
        coalesce(d.attempts_made, 0) - coalesce(b.attempts, 0) as attempts,
        coalesce(d.attempts_failed, 0) - coalesce(b.failed, 0) as failed
) f
where u.actual_end = 'infinity'
  and (
      $1 is null
      or pg_has_role($1, s.owner, @membership@)
      or coalesce(pg_has_role($1, c.role, @membership@), false)
      or pg_has_role($1, $2, @membership@)
  )
  and ($3::uuid[] is null or u.segment_id = any ($3))
order by c.name collate "C", s.name collate "C", u.target collate "C"
