-- Creates the subscription of the consumer $2 that delivers the alerts of the rule $1, unless the same rule $6 of the role
-- $7 is there, so that this one is not written. Returns whether that is right: a subscription that is there has to be
-- that of a rule, or, with $5, of one that a dump brings.
-- runs as: set owner
-- params: alert uuid, consumer uuid, actual_begin timestamptz, actual_end timestamptz, is_restored boolean, rule jsonb, owner_name text
-- row: is_right boolean
with same as (
    select from @alerts@ a
    where a.consumer_id = $2 and a.owner = @schema@.segmenter_role_named($7) and md5(a.rule::text) = md5($6::text)
      and a.actual_end = 'infinity' and $4 = 'infinity' and not $5
), subscribed as (
    insert into @subscriptions@ (id, consumer_id, target, name, actual_begin, actual_end)
    select $1, $2, 'alerts', 'alerts', $3, $4
    where not exists (select from same)
    on conflict (id) do nothing
    returning id
)
select exists (select from same) or exists (select from subscribed) or exists (
    select from @subscriptions@ u
    where u.id = $1 and u.consumer_id = $2 and u.segment_id is null
      and ($5 or exists (select from @alerts@ a where a.id = u.id))
) as is_right
