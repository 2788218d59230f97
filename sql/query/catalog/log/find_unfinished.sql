-- The entries `running` of refreshes that have no later entry. Runs in $1 are left out; where $2 is
-- given, only this segment is considered.
-- runs as: set owner
-- params: alive uuid[], segment uuid
-- row: ids bigint[]
select array_agg(r.id)
from @log@ r
where r.status = 'running' and r.action = 'refresh' and r.run_id <> all ($1)
  and ($2::uuid is null or r.segment_id = $2)
  and not exists (
      select
      from @log@ l
      where l.segment_id = r.segment_id and l.run_id = r.run_id and l.id > r.id
  )
