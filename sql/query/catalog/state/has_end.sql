-- Whether the log has the end of the run $2 of the segment $1.
-- runs as: set owner
-- params: segment uuid, run uuid
-- row: has_end boolean
select exists (
    select from @log@ l
    where l.segment_id = $1 and l.run_id = $2 and l.action = 'refresh' and l.status <> 'running'
) as has_end
