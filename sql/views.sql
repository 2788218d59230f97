-- What a DBA looks at. It shows what its reader may see: the policies on the tables below it hold.
create view segmenter_status with (security_invoker = true) as
select
    s.id,
    s.name,
    s.description,
    s.table_name,
    s.context,
    s.refresh_auto,
    s.refresh_params,
    s.refresh_cron,
    last.processed as last_refresh,
    last.status as last_status,
    case when last.status <> 'ok' then coalesce(last.error ->> 'message', last.message) end as last_error,
    due.next_refresh,
    good.coverage,
    good.added,
    good.removed,
    good.changed,
    c.name as update_consumer,
    u.target as update_target,
    replace(replace(replace(u.name,
        '{{name}}', s.name), '{{consumer}}', coalesce(c.name, '')), '{{target}}', u.target
    ) as update_name,
    u.params as update_params,
    u.cron as update_cron,
    -- The column is left alone while a refresh or a consumer has the row in hand.
    case
        when u.status = 'failed' then u.status
        when pending.messages > 0 then 'queued'
        when u.status = 'queued' then 'uploaded'
        else u.status
    end as update_status,
    pending.messages as pending_messages,
    d.delivered_at as last_delivery,
    receipt.params -> 'receipt' as last_receipt,
    coalesce(d.last_error, handed.error ->> 'message') as delivery_error
from segmenter_segments s
left join lateral (
    select l.processed, l.status, l.error, l.message
    from segmenter_log l
    where l.segment_id = s.id and l.action = 'refresh'
      and (l.params @> '{"attempted": false}') is not true -- busy, or a stranger's call
    order by l.id desc
    limit 1
) last on true
left join lateral (
    select l.coverage, l.added, l.removed, l.changed
    from segmenter_log l
    where l.segment_id = s.id and l.action = 'refresh' and l.status = 'ok'
      and (l.params @> '{"attempted": false}') is not true
    order by l.id desc
    limit 1
) good on true
left join segmenter_due() due on due.segment = s.name
left join segmenter_subscriptions u on u.segment_id = s.id and u.actual_end = 'infinity'
left join segmenter_consumers c on c.id = u.consumer_id
left join segmenter_deliveries d on d.subscription_id = u.id
left join lateral (
    select count(*) as messages
    from segmenter_outbox o
    where o.subscription_id = u.id
      -- Not coalesce, which an index may not be searched by before the policy has passed a row.
      and o.id > case when d.delivered_through is null then 0 else d.delivered_through end
) pending on u.id is not null
left join lateral (
    select l.params
    from segmenter_log l
    where l.subscription_id = u.id and l.action = 'deliver' and l.status = 'ok' and l.params ? 'receipt'
    order by l.id desc
    limit 1
) receipt on true
left join lateral (
    select l.error
    from segmenter_log l
    where l.subscription_id = u.id and l.action = 'hand over'
    order by l.id desc
    limit 1
) handed on true
where s.actual_end = 'infinity'
order by s.name, c.name, u.target;
comment on view segmenter_status is 'a row for each actual segment and actual subscription (one for a segment without): how the last refresh went, what is next, what is still to be handed over';
comment on column segmenter_status.id is 'the segment';
comment on column segmenter_status.name is 'the segment''s name';
comment on column segmenter_status.description is 'what the segment means';
comment on column segmenter_status.table_name is 'the segment table';
comment on column segmenter_status.context is 'the related task';
comment on column segmenter_status.refresh_auto is 'whether segmenter_run() refreshes it';
comment on column segmenter_status.refresh_params is 'the refresher';
comment on column segmenter_status.refresh_cron is 'when it is refreshed';
comment on column segmenter_status.last_refresh is 'when it was last tried';
comment on column segmenter_status.last_status is 'how that ended';
comment on column segmenter_status.last_error is 'why it failed or was refused, or what it waits for';
comment on column segmenter_status.next_refresh is 'when it is due next, for an automatic segment with a schedule';
comment on column segmenter_status.coverage is 'members after the last refresh that succeeded';
comment on column segmenter_status.added is 'members it added';
comment on column segmenter_status.removed is 'members it removed';
comment on column segmenter_status.changed is 'members it changed';
comment on column segmenter_status.update_consumer is 'the consumer';
comment on column segmenter_status.update_target is 'the target system';
comment on column segmenter_status.update_name is 'the audience''s name over there';
comment on column segmenter_status.update_params is 'how it is handed over';
comment on column segmenter_status.update_cron is 'when it may be handed over';
comment on column segmenter_status.update_status is 'the audience: not uploaded, queued, uploaded, failed';
comment on column segmenter_status.pending_messages is 'messages not delivered yet';
comment on column segmenter_status.last_delivery is 'when a message was last delivered';
comment on column segmenter_status.last_receipt is 'what the consumer last said of what it received';
comment on column segmenter_status.delivery_error is 'why messages could not be handed over, or delivered, the last time';
