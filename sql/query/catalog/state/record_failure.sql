-- Records that the attempt of the run $2 to refresh the segment $1, from $3 to $4, ended with the
-- status $5, refused or failed, because of $6. It ran with the version $7 of the definition.
-- A row that another session has locked is left to that session. A row that the state has outlived
-- is overwritten as a whole; but a run that goes on stays recorded as running until it ends.
-- runs as: set owner
-- params: segment uuid, run uuid, began timestamptz, ended timestamptz, status text, message text, definition integer
with attempt as (
    select $1 as segment_id, coalesce((select t.refreshes from @state@ t where t.segment_id = $1), 0) as refreshes
), free as materialized (
    select a.segment_id from @attempts@ a where a.segment_id = $1 for update skip locked
), updated as (
    update @attempts@ a
    set refreshes = n.refreshes,
        run_id = case when a.running_since is null then $2 else a.run_id end,
        running_since = case when a.run_id <> $2 then a.running_since end,
        status = $5,
        message = $6,
        waiting_since = null,
        started_at = $3,
        ended_at = $4,
        definition = $7,
        failures = case $5
            when 'failed' then 1 + case when a.refreshes = n.refreshes then a.failures else 0 end
            else 0
        end
    from attempt n, free
    where a.segment_id = n.segment_id and free.segment_id = n.segment_id
    returning a.segment_id
)
insert into @attempts@ (segment_id, refreshes, run_id, status, message, started_at, ended_at, failures, definition)
select n.segment_id, n.refreshes, $2, $5, $6, $3, $4, case $5 when 'failed' then 1 else 0 end, $7
from attempt n
where not exists (select from updated)
on conflict (segment_id) do nothing
