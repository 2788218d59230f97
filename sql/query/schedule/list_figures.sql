-- The figures of the active segments whose owner $1 is not a member of, with a row for each active
-- subscription (one row for a segment without any), as in the status view.
-- runs as: set owner
-- params: reader oid
-- row: id uuid, name text, table_oid oid, refresh_auto boolean, refresh_cron text, last_refresh timestamptz, last_status text, coverage bigint, added bigint, removed bigint, changed bigint, update_consumer text, update_target text, update_name text, update_cron text, update_status text, pending_messages bigint, last_delivery timestamptz, excluded bigint, subscription_id uuid, hold_until timestamptz
select
    s.id,
    s.name,
    s.table_name::oid as table_oid,
    s.refresh_auto,
    s.refresh_cron,
    coalesce(a.running_since, a.waiting_since, a.started_at, t.started_at) as last_refresh,
    case
        when a.running_since is not null then 'running'
        when a.status is not null then a.status
        when t.refreshes > 0 then 'ok'
    end as last_status,
    t.coverage,
    t.added,
    t.removed,
    t.changed,
    c.name as update_consumer,
    u.target as update_target,
    replace(replace(replace(u.name,
        '{{name}}', s.name), '{{consumer}}', coalesce(c.name, '')), '{{target}}', u.target
    ) as update_name,
    u.cron as update_cron,
    case
        when u.status = 'failed' then u.status
        when d.pending_messages > 0 then 'queued'
        when d.pending_messages = 0 and u.status = 'queued' then 'uploaded'
        else u.status
    end as update_status,
    d.pending_messages,
    d.delivered_at as last_delivery,
    t.excluded,
    u.id as subscription_id,
    case when s.hold_until > now() then s.hold_until end as hold_until
from @segments@ s
left join @state@ t on t.segment_id = s.id
left join @attempts@ a on a.segment_id = s.id and a.refreshes = coalesce(t.refreshes, 0)
left join @subscriptions@ u on u.segment_id = s.id and u.actual_end = 'infinity'
left join @consumers@ c on c.id = u.consumer_id
left join lateral (
    select
        (
            select count(*)
            from @outbox@ o
            where o.subscription_id = u.id and o.id > coalesce(k.delivered_through, 0)
        ) as pending_messages,
        k.delivered_at
    from (select) one
    left join @deliveries@ k on k.subscription_id = u.id
    where u.id is not null
) d on true
where s.actual_end = 'infinity' and not pg_has_role($1, s.owner, @membership@)
order by s.name, c.name, u.target
