-- The active segments with the names $1 that the role $2 may know, because it may act as their owner or
-- read their table. timezone is the zone of the members' times. is_family: it has none of its own.
-- runs as: set owner
-- params: names text[], reader oid
-- row: id uuid, name text, table_oid oid, owner oid, timezone text, is_family boolean
select
    s.id,
    s.name,
    s.table_name::oid as table_oid,
    s.owner::oid as owner,
    t.timezone,
    s.refresh_params @> '{"query": {"family": true}}' or s.refresh_params @> '{"incremental": {"family": true}}' as is_family
from @segments@ s
left join @state@ t on t.segment_id = s.id
where s.name = any ($1) and s.actual_end = 'infinity'
  and (
      pg_has_role($2, s.owner, @membership@)
      or coalesce(has_any_column_privilege($2, s.table_name, 'select'), false)
  )
