-- Recorded times that lie in the future, of active segments whose owner $1 is a member of (all if it sees
-- their figures, $2): what of the segment is recorded so, and the latest of these times. Leases and
-- retries are those of its subscriptions. Members' local times may be ahead by the hour that is repeated in
-- autumn.
-- runs as: set owner
-- params: reader oid, sees_figures boolean
-- row: name text, what text, at text
select s.name::text, x.what, to_char(max(x.at), 'YYYY-MM-DD HH24:MI:SS') as at
from @segments@ s
left join @state@ t on t.segment_id = s.id
left join @attempts@ a on a.segment_id = s.id and a.refreshes = coalesce(t.refreshes, 0)
cross join lateral (
    select w.what, w.at::timestamp as at
    from (
        values
            ('refresh', greatest(t.started_at, t.ended_at, a.started_at, a.ended_at, a.running_since)),
            ('waiting', a.waiting_since),
            ('checkpoint', greatest(
                (t.checkpoint ->> 'watermark')::timestamptz,
                (t.checkpoint ->> 'at')::timestamptz,
                (t.checkpoint ->> 'full_at')::timestamptz
            ))
    ) w (what, at)
    where w.at > clock_timestamp() + interval '10 seconds'
    union all
    select 'members', t.changed_at
    where t.changed_at > clock_timestamp()::timestamp + interval '65 minutes'
    union all
    select 'delivery', e.at::timestamp
    from @subscriptions@ u
    join @deliveries@ d on d.subscription_id = u.id
    cross join lateral (
        select greatest(
            d.delivered_at,
            d.marked_at[cardinality(d.marked_at)],
            d.leased_until - d.leased_for,
            d.next_attempt_at - d.retry_after
        ) as at
    ) e
    where u.segment_id = s.id and e.at > clock_timestamp() + interval '10 seconds'
) x (what, at)
where s.actual_end = 'infinity' and ($2 or pg_has_role($1, s.owner, @membership@))
group by s.name, x.what
order by s.name, x.what
