-- Writes an entry `interrupted` for each of the unfinished entries $1. The time of the interruption
-- is unknown: `processed` is the begin of the refresh, `elapsed` the time from then until now.
-- runs as: set owner
-- params: entries bigint[]
-- row: segment_name text
insert into @log@ (processed, run_id, action, status, segment_id, segment_name, elapsed, message, params)
select r.processed, r.run_id, r.action, 'interrupted', r.segment_id, r.segment_name,
    clock_timestamp() - r.processed, 'the server or the worker was stopped before the refresh ended', r.params
from @log@ r
where r.id = any ($1)
returning segment_name
