-- Records that the segment $1 waits for its sources, as the run $2 found at the time $3. $4 names
-- the sources.
-- A row that another session has locked is left to that session. A row that the state has outlived
-- is overwritten as a whole; but a run that goes on stays recorded as running until it ends.
-- runs as: set owner
-- params: segment uuid, run uuid, began timestamptz, message text
with attempt as (
    select $1 as segment_id, coalesce((select t.refreshes from @state@ t where t.segment_id = $1), 0) as refreshes
), free as materialized (
    select a.segment_id from @attempts@ a where a.segment_id = $1 for update skip locked
), updated as (
    update @attempts@ a
    set refreshes = n.refreshes,
        run_id = case when a.running_since is null then $2 else a.run_id end,
        running_since = case when a.run_id <> $2 then a.running_since end,
        status = 'waiting',
        message = $4,
        waiting_since = coalesce(case when a.refreshes = n.refreshes then a.waiting_since end, $3),
        started_at = case when a.refreshes = n.refreshes then a.started_at end,
        ended_at = case when a.refreshes = n.refreshes then a.ended_at end,
        failures = case when a.refreshes = n.refreshes then a.failures else 0 end,
        definition = case when a.refreshes = n.refreshes then a.definition end
    from attempt n, free
    where a.segment_id = n.segment_id and free.segment_id = n.segment_id
    returning a.segment_id
)
insert into @attempts@ (segment_id, refreshes, run_id, status, message, waiting_since)
select n.segment_id, n.refreshes, $2, 'waiting', $4, $3
from attempt n
where not exists (select from updated)
on conflict (segment_id) do nothing
