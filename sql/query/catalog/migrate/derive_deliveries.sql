-- Derives from the log the last receipt of each subscription, the numbers of its attempts, and how long ago its
-- messages were delivered: the cursor at the end of each of the last days.
-- runs as: set owner
update @deliveries@ d
set last_receipt = receipt.receipt,
    marked_through = coalesce(marks.through, '{}'),
    marked_at = coalesce(marks.at, '{}'),
    messages_delivered = figures.delivered,
    attempts_made = figures.delivered + figures.failed,
    attempts_failed = figures.failed
from @deliveries@ k
left join lateral (
    select l.params -> 'receipt' as receipt
    from @log@ l
    where l.subscription_id = k.subscription_id and l.action = 'deliver' and l.status = 'ok' and l.params ? 'receipt'
    order by l.id desc
    limit 1
) receipt on true
left join lateral (
    select array_agg(m.through order by m.at) as through, array_agg(m.at order by m.at) as at
    from (
        select max((l.params ->> 'message_id')::bigint) as through, max(l.processed) as at
        from @log@ l
        where l.subscription_id = k.subscription_id and l.action = 'deliver' and l.status in ('ok', 'skipped')
          and l.params ->> 'message_id' is not null
        group by floor(extract(epoch from l.processed) / 86400)
        order by at desc
        limit 32
    ) m
) marks on true
cross join lateral (
    select
        count(*) filter (where l.status = 'ok') as delivered,
        count(*) filter (where l.status = 'failed') as failed
    from @log@ l
    where l.subscription_id = k.subscription_id and l.action = 'deliver'
) figures
where d.subscription_id = k.subscription_id
