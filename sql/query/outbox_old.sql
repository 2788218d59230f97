-- Messages that were delivered before $1, as far as the log tells, and those of subscriptions that are
-- gone: the oldest, of $2 bytes together or little more, and 10,000 at most.
select array_agg(o.id)
from (
    select o.id, sum(pg_column_size(o.payload)) over (order by o.id) - pg_column_size(o.payload) as before
    from (
        select o.id, o.payload
        from @outbox@ o
        left join @deliveries@ d on d.subscription_id = o.subscription_id
        left join lateral (
            select max((l.params ->> 'message_id')::bigint) as through
            from @log@ l
            where l.subscription_id = d.subscription_id and l.action = 'deliver'
              and l.status in ('ok', 'skipped') and l.processed < $1
        ) old on true
        where d.subscription_id is null
           or (o.id <= d.delivered_through and (o.id <= old.through or d.delivered_at < $1))
        order by o.id
        limit 10000
    ) o
) o
where o.before < $2
