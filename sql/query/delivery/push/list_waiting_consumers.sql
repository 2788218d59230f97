-- The consumers that workers serve and that have waiting messages, with the time from which the
-- next message can be delivered; and those whose function is asked for their audiences, with the time.
-- Those that are served from another place than $1, of which this database is a copy, are left out, and
-- so are messages that are held back.
-- runs as: set owner
-- params: place text
-- row: id uuid, name text, role oid, at timestamptz
-- @is_held_back@: delivery/is_held_back, e.g. false
select w.id, w.name, w.role, min(w.at) as at
from (
    select
        c.id,
        c.name,
        c.role::oid as role,
        min(greatest(
            -- Times that were set while the clock was ahead count for nothing.
            case
                when head.created_at <= clock_timestamp() + interval '10 seconds'
                    and (u.cron is not null or head.available_at <= clock_timestamp() + interval '10 seconds')
                    then head.available_at
                else clock_timestamp()
            end,
            case
                when d.next_attempt_at > clock_timestamp() + d.retry_after + interval '10 seconds' then null
                else d.next_attempt_at
            end,
            case
                when d.leased_until > clock_timestamp() + d.leased_for + interval '10 seconds' then null
                else d.leased_until
            end
        )) as at
    from @consumers@ c
    join @subscriptions@ u on u.consumer_id = c.id and u.status <> 'failed'
    join @deliveries@ d on d.subscription_id = u.id
    cross join lateral (
        select o.id, o.available_at, o.created_at, o.operation, o.audience
        from @outbox@ o
        where o.subscription_id = d.subscription_id and o.id > d.delivered_through
        order by o.id
        limit 1
    ) head
    where jsonb_typeof(c.params -> 'updater') = 'object' and c.home = $1
      and not (@is_held_back@)
    group by c.id
    union all
    -- The same times as in delivery/audiences/next_question.
    select
        c.id,
        c.name,
        c.role::oid,
        case
            when r.asked_at <= clock_timestamp() + interval '10 seconds' then r.asked_at + case
                when r.error is null then (c.params ->> 'list_every')::interval
                else least((c.params ->> 'list_every')::interval, interval '1 hour')
            end
            else clock_timestamp()
        end
    from @consumers@ c
    left join @reports@ r on r.consumer_id = c.id
    where c.params ? 'list_every' and c.actual_end = 'infinity' and c.home = $1
      and jsonb_typeof(c.params -> 'updater') = 'object' and jsonb_typeof(c.params -> 'list_every') = 'string'
) w
group by w.id, w.name, w.role
order by at, w.name
