-- Records that the run $2 began to refresh the segment $1 at the time $3. Returns whether it is recorded: a
-- row that another session has locked, which deletes it with its segment for example, is left to that
-- session. A row that the state has outlived is overwritten as a whole.
-- runs as: set owner
-- params: segment uuid, run uuid, began timestamptz
-- row: is_recorded boolean
with attempt as (
    select $1 as segment_id, coalesce((select t.refreshes from @state@ t where t.segment_id = $1), 0) as refreshes
), free as materialized (
    select a.segment_id from @attempts@ a where a.segment_id = $1 for update skip locked
), updated as (
    update @attempts@ a
    set refreshes = n.refreshes,
        run_id = $2,
        running_since = $3,
        status = case when a.refreshes = n.refreshes then a.status end,
        message = case when a.refreshes = n.refreshes then a.message end,
        waiting_since = case when a.refreshes = n.refreshes then a.waiting_since end,
        started_at = case when a.refreshes = n.refreshes then a.started_at end,
        ended_at = case when a.refreshes = n.refreshes then a.ended_at end,
        failures = case when a.refreshes = n.refreshes then a.failures else 0 end,
        definition = case when a.refreshes = n.refreshes then a.definition end
    from attempt n, free
    where a.segment_id = n.segment_id and free.segment_id = n.segment_id
    returning a.segment_id
), inserted as (
    insert into @attempts@ (segment_id, refreshes, run_id, running_since)
    select n.segment_id, n.refreshes, $2, $3
    from attempt n
    where not exists (select from updated)
    on conflict (segment_id) do nothing
    returning segment_id
)
select exists (select from updated union all select from inserted) as is_recorded
