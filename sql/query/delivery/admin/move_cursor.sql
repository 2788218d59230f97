-- Makes the subscription $1 continue at once, after the message $2 if one is given. The new cursor
-- is remembered, as for a delivery. With $3 that message is skipped, which is remembered, too.
-- runs as: set owner
-- params: subscription uuid, through bigint, is_skipped boolean
update @deliveries@ d
set delivered_through = greatest(d.delivered_through, $2),
    lease = null,
    leased_until = null,
    attempts = 0,
    next_attempt_at = null,
    last_error = null,
    failures_in_a_row = 0,
    skipped_messages = d.skipped_messages + case when $3 and $2 > d.delivered_through then 1 else 0 end,
    skipped_members = d.skipped_members + coalesce(
        (select o.members from @outbox@ o where $3 and o.id = $2 and o.id > d.delivered_through), 0
    ),
    marked_through = case
        when $2 > d.delivered_through
            then d.marked_through[greatest(1, cardinality(d.marked_through) - 30):] || $2
        else d.marked_through
    end,
    marked_at = case
        when $2 > d.delivered_through
            then d.marked_at[greatest(1, cardinality(d.marked_at) - 30):] || clock_timestamp()
        else d.marked_at
    end
where d.subscription_id = $1
