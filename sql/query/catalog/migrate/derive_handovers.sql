-- Derives from the log what was handed over to each subscription.
-- runs as: set owner
insert into @handovers@ (subscription_id, has_audience, fields, failed_fields, error, past_fields, messages_written, members_handed_over)
select
    u.id,
    d.subscription_id is not null and good.operations is distinct from '["delete"]',
    good.fields,
    case when last.status = 'failed' then last.fields end,
    case when last.status = 'failed' then coalesce(last.error ->> 'message', last.message) end,
    coalesce(past.fields, '[]'),
    coalesce(figures.messages, 0),
    coalesce(figures.members, 0)
from @subscriptions@ u
left join @deliveries@ d on d.subscription_id = u.id
left join lateral (
    select l.status, l.error, l.message, l.params -> 'fields' as fields
    from @log@ l
    where l.subscription_id = u.id and l.action = 'hand over'
    order by l.id desc
    limit 1
) last on true
left join lateral (
    select l.params -> 'operations' as operations, l.params -> 'fields' as fields
    from @log@ l
    where l.subscription_id = u.id and l.action = 'hand over' and l.status = 'ok'
    order by l.id desc
    limit 1
) good on true
left join lateral (
    select jsonb_agg(distinct l.params -> 'fields') as fields
    from @log@ l
    where l.subscription_id = u.id and l.action = 'hand over' and l.params ? 'fields'
      and (l.params -> 'fields') is distinct from good.fields
) past on true
left join lateral (
    select
        sum((l.params ->> 'messages')::bigint) as messages,
        sum(coalesce(l.added, 0) + coalesce(l.removed, 0) + coalesce(l.coverage, 0)) as members
    from @log@ l
    where l.subscription_id = u.id and l.action = 'hand over' and l.status = 'ok'
) figures on true
where d.subscription_id is not null or last.status is not null
