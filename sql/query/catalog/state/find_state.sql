-- How the segment $1 was refreshed last: by which run, whether a run is going on, how it ended, and
-- when the last one ended that succeeded or failed.
-- runs as: set owner
-- params: segment uuid
-- row: run_id uuid, is_running boolean, status text, ended_at timestamptz
select
    coalesce(a.run_id, t.run_id) as run_id,
    a.running_since is not null as is_running,
    coalesce(a.status, case when t.refreshes > 0 then 'ok' end) as status,
    greatest(a.ended_at, t.ended_at) as ended_at
from (values ($1)) s (id)
left join @state@ t on t.segment_id = s.id
left join @attempts@ a on a.segment_id = s.id and a.refreshes = coalesce(t.refreshes, 0)
