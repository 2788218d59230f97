-- Messages that were delivered before $1, and messages of deleted subscriptions: the oldest ones,
-- up to about $2 bytes and 10,000 messages. A subscription whose oldest message is newer than $1 is
-- skipped, because it has none. A time that lies in the future counts as past: when it was is not known.
-- runs as: set owner
-- params: before timestamptz, bytes bigint
-- row: ids bigint[]
with recursive first (subscription_id, id, created_at) as (
    (
        select o.subscription_id, o.id, o.created_at
        from @outbox@ o
        order by o.subscription_id, o.id
        limit 1
    )
    union all
    select next.subscription_id, next.id, next.created_at
    from first f
    cross join lateral (
        select o.subscription_id, o.id, o.created_at
        from @outbox@ o
        where o.subscription_id > f.subscription_id
        order by o.subscription_id, o.id
        limit 1
    ) next
), delivered as materialized (
    select
        f.subscription_id,
        case
            when d.subscription_id is null then 9223372036854775807
            -- The last change of the cursor is at one of these times.
            when greatest(d.delivered_at, d.marked_at[cardinality(d.marked_at)]) < $1
                or greatest(d.delivered_at, d.marked_at[cardinality(d.marked_at)])
                    > clock_timestamp() + interval '10 seconds'
                then d.delivered_through
            else least(d.delivered_through, coalesce((
                select max(m.through)
                from unnest(d.marked_through, d.marked_at) m (through, at)
                where m.at < $1
            ), 0))
        end as through
    from first f
    left join @deliveries@ d on d.subscription_id = f.subscription_id
    where d.subscription_id is null or (
        (f.created_at < $1 or f.created_at > clock_timestamp() + interval '10 seconds')
        and f.id <= d.delivered_through
    )
)
select array_agg(o.id)
from (
    select o.id, sum(pg_column_size(o.payload)) over (order by o.id) - pg_column_size(o.payload) as before
    from (
        select o.id, o.payload
        from delivered d
        join @outbox@ o on o.subscription_id = d.subscription_id and o.id <= d.through
        order by o.id
        limit 10000
    ) o
) o
where o.before < $2
