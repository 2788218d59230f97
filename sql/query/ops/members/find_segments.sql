-- The active segments with the names $1 that the role $2 may know, because it may act as their owner or
-- read their table. timezone is the zone of the members' times.
-- runs as: set owner
-- params: names text[], reader oid
-- row: id uuid, name text, table_oid oid, owner oid, timezone text
select
    s.id,
    s.name,
    s.table_name::oid as table_oid,
    s.owner::oid as owner,
    t.timezone
from @segments@ s
left join @state@ t on t.segment_id = s.id
where s.name = any ($1) and s.actual_end = 'infinity'
  and (
      pg_has_role($2, s.owner, @membership@)
      or coalesce(has_any_column_privilege($2, s.table_name, 'select'), false)
  )
