-- The id that the next message must be above (the highest one of a message, or of one that was delivered
-- for one of the subscriptions $1), and the sequence of the outbox, which may be behind it. Without a
-- row it is ahead. It is behind where a dump, a switchover or a hand has brought back an older one.
-- runs as: set owner
-- params: subscriptions uuid[]
-- row: through bigint, sequence text
select f.through, f.sequence
from (
    select pg_get_serial_sequence('@text:outbox@', 'id') as sequence,
        greatest(
            (select max(o.id) from @outbox@ o),
            (
                select max(d.delivered_through)
                from @deliveries@ d
                where d.subscription_id = any ($1)
            )
        ) as through
) f
where f.through > coalesce(pg_sequence_last_value(f.sequence), 0)
