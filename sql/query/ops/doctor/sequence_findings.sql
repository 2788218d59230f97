-- The sequences that are behind the ids of messages and log entries: what gets the next id, that id, and
-- the highest one that was given out.
-- runs as: set owner
-- row: what text, next text, through text
select f.what, f.next::text, f.through::text
from (
    select 'message' as what,
        coalesce(pg_sequence_last_value(pg_get_serial_sequence('@text:outbox@', 'id')), 0) + 1 as next,
        greatest((select max(o.id) from @outbox@ o), (select max(d.delivered_through) from @deliveries@ d)) as through
    union all
    select 'entry of the log',
        coalesce(pg_sequence_last_value(pg_get_serial_sequence('@text:log@', 'id')), 0) + 1,
        (select max(l.id) from @log@ l)
) f
where f.next <= f.through
order by f.what
