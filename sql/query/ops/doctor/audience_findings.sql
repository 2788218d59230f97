-- The active subscriptions (all if $1 sees their figures, $3), to segments whose owner $1 is a member of
-- or of consumers whose role (or the
-- set's owner, $2) it is, whose audience is known to differ from the segment: members that the consumer
-- could not use, messages that were skipped, members that cannot be part of a message, or another
-- number of members by the consumer's receipt although no message waits. Events make no audience.
-- runs as: set owner
-- params: reader oid, set_owner oid, sees_figures boolean
-- row: consumer text, target text, segment text, refused text, skipped text, skipped_members text, left_out text, given text, counted text
select c.name::text as consumer, u.target::text, s.name::text as segment,
    nullif(d.refused_members, 0)::text as refused,
    nullif(d.skipped_messages, 0)::text as skipped,
    d.skipped_members::text,
    nullif(h.left_out, 0)::text as left_out,
    h.members::text as given,
    case
        when d.coverage <> h.members and d.refused_members = 0 and d.skipped_messages = 0
            and not exists (
                select from @outbox@ o where o.subscription_id = u.id and o.id > d.delivered_through
            )
            then d.coverage::text
    end as counted
from @subscriptions@ u
join @segments@ s on s.id = u.segment_id
join @consumers@ c on c.id = u.consumer_id
join @deliveries@ d on d.subscription_id = u.id
join @handovers@ h on h.subscription_id = u.id
where (
    $3 or pg_has_role($1, s.owner, @membership@) or coalesce(pg_has_role($1, c.role, @membership@), false)
    or pg_has_role($1, $2, @membership@)
) and not h.has_events and u.actual_end = 'infinity' and s.actual_end = 'infinity' and c.actual_end = 'infinity'
order by c.name, u.target, s.name
