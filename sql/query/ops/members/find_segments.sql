-- The active segments with the names $1 that the role $2 may know, because it may act as their owner or
-- read their table. at is the time $3 in the zone of the members' times, by default $4.
-- runs as: set owner
-- params: names text[], reader oid, at timestamptz, timezone text
-- row: id uuid, name text, table_oid oid, owner oid, at timestamp
select
    s.id,
    s.name,
    s.table_name::oid as table_oid,
    s.owner::oid as owner,
    $3 at time zone coalesce(t.timezone, $4) as at
from @segments@ s
left join @state@ t on t.segment_id = s.id
where s.name = any ($1) and s.actual_end = 'infinity'
  and (
      pg_has_role($2, s.owner, @membership@)
      or coalesce(has_any_column_privilege($2, s.table_name, 'select'), false)
  )
