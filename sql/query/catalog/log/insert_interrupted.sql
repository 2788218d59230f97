-- An end for the entries $1, which have none. When they ended nobody knows, only that it is over.
-- runs as: set owner
-- params: entries bigint[]
-- row: segment_name text
insert into @log@ (processed, run_id, action, status, segment_id, segment_name, elapsed, message, params)
select r.processed, r.run_id, r.action, 'interrupted', r.segment_id, r.segment_name,
    clock_timestamp() - r.processed, 'the server or the worker was stopped before the refresh ended', r.params
from @log@ r
where r.id = any ($1)
returning segment_name
