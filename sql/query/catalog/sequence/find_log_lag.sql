-- The highest id of an entry of the log, and the log's sequence, which may be behind it. Without a row it
-- is ahead.
-- runs as: set owner
-- row: through bigint, sequence text
select f.through, f.sequence
from (
    select pg_get_serial_sequence('@text:log@', 'id') as sequence, (select max(l.id) from @log@ l) as through
) f
where f.through > coalesce(pg_sequence_last_value(f.sequence), 0)
