-- The id that the next message must be above, if the sequence of the outbox is not: the highest of a
-- message, or of one that was delivered for one of the subscriptions $1. Null: the sequence
-- is ahead. It is behind where a dump, a switchover or a hand has brought back an older one.
-- runs as: set owner
-- params: subscriptions uuid[]
-- row: through bigint
select case when f.through > coalesce(pg_sequence_last_value(pg_get_serial_sequence('@text:outbox@', 'id')), 0) then f.through end
from (
    select greatest(
        (select max(o.id) from @outbox@ o),
        (
            select max(d.delivered_through)
            from @deliveries@ d
            where d.subscription_id = any ($1)
        )
    ) as through
) f
