-- Marks the messages of the subscription $1 up to and including $2 as delivered, with the receipt $3
-- if there is one, whose number of members is $5
-- and of refused members $6. With the first part of a replace, or if the consumer has been given all members
-- ($7), all that was refused or skipped before is made good. The cursor is remembered if the last one that is remembered is older than $4: 32
-- of them at most.
-- runs as: set owner
-- params: subscription uuid, message bigint, receipt jsonb, mark_interval interval, coverage bigint, refused bigint, is_whole boolean
update @deliveries@ d
set delivered_through = greatest(d.delivered_through, $2),
    leased_until = case when d.leased_through > $2 then d.leased_until end,
    -- The remaining messages of the lease are at their first attempt.
    attempts = case when d.leased_through > $2 and d.leased_until is not null then 1 else 0 end,
    next_attempt_at = null,
    last_error = null,
    delivered_at = m.now,
    messages_delivered = d.messages_delivered + m.messages,
    attempts_made = d.attempts_made + 1,
    failures_in_a_row = 0,
    last_receipt = coalesce($3, d.last_receipt),
    coverage = $5,
    audience = m.audience,
    refused_members = case when m.is_anew then 0 else d.refused_members end + greatest($6, 0),
    skipped_messages = case when m.is_anew then 0 else d.skipped_messages end,
    skipped_members = case when m.is_anew then 0 else d.skipped_members end,
    marked_through = case when m.is_due then d.marked_through[m.first:] || $2 else d.marked_through end,
    marked_at = case when m.is_due then d.marked_at[m.first:] || m.now else d.marked_at end
from (
    select
        l.subscription_id,
        clock_timestamp() as now,
        l.marked_at = '{}' or l.marked_at[cardinality(l.marked_at)] <= clock_timestamp() - $4
            or l.marked_at[cardinality(l.marked_at)] > clock_timestamp() + interval '10 seconds' as is_due,
        greatest(1, cardinality(l.marked_at) - 30) as first,
        case when o.operation = 'delete' then null else coalesce(o.audience, l.audience) end as audience,
        $7 or w.is_anew as is_anew,
        w.messages
    from @deliveries@ l
    cross join lateral (
        select
            count(*) as messages,
            coalesce(bool_or(p.operation in ('create', 'replace', 'delete') and p.part = 1), false) as is_anew
        from @outbox@ p
        where p.subscription_id = l.subscription_id and p.id > l.delivered_through and p.id <= $2
    ) w
    left join @outbox@ o on o.id = $2 and o.subscription_id = l.subscription_id
    where l.subscription_id = $1
) m
where d.subscription_id = m.subscription_id
