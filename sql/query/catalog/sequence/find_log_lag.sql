-- The highest id of an entry of the log, if the log's sequence is behind it. Null: the sequence is
-- ahead.
-- runs as: set owner
-- row: through bigint
select case when f.through > coalesce(pg_sequence_last_value(pg_get_serial_sequence('@text:log@', 'id')), 0) then f.through end
from (select max(l.id) as through from @log@ l) f
