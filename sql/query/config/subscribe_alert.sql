-- Creates the subscription of the consumer $2 that delivers the alerts of the rule $1. Returns whether it has that id. One
-- that is there is taken if it is that of a rule, or, with $5, of one that a dump brings.
-- runs as: set owner
-- params: alert uuid, consumer uuid, actual_begin timestamptz, actual_end timestamptz, is_restored boolean
-- row: is_subscribed boolean
with subscribed as (
    insert into @subscriptions@ (id, consumer_id, target, name, actual_begin, actual_end)
    values ($1, $2, 'alerts', 'alerts', $3, $4)
    on conflict (id) do nothing
    returning id
)
select exists (select from subscribed) or exists (
    select from @subscriptions@ u
    where u.id = $1 and u.consumer_id = $2 and u.segment_id is null
      and ($5 or exists (select from @alerts@ a where a.id = u.id))
) as is_subscribed
