-- How the segment $1 was refreshed last: by which run, whether a run is going on, and how it ended.
-- runs as: set owner
-- params: segment uuid
-- row: run_id uuid, is_running boolean, status text
select
    coalesce(a.run_id, t.run_id) as run_id,
    a.running_since is not null as is_running,
    coalesce(a.status, case when t.refreshes > 0 then 'ok' end) as status
from (values ($1)) s (id)
left join @state@ t on t.segment_id = s.id
left join @attempts@ a on a.segment_id = s.id and a.refreshes = coalesce(t.refreshes, 0)
