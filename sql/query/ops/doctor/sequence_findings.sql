-- The sequences that may be behind the ids of messages and log entries: what gets the next id, the
-- highest one that was given out, and the sequence.
-- runs as: set owner
-- row: what text, through text, sequence text
select f.what, f.through::text, f.sequence
from (
    select 'message' as what,
        greatest((select max(o.id) from @outbox@ o), (select max(d.delivered_through) from @deliveries@ d)) as through,
        pg_get_serial_sequence('@text:outbox@', 'id') as sequence
    union all
    select 'entry of the log',
        (select max(l.id) from @log@ l),
        pg_get_serial_sequence('@text:log@', 'id')
) f
where f.through > coalesce(pg_sequence_last_value(f.sequence), 0)
order by f.what
