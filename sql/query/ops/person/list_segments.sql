-- The segments, retired ones too, whose owner the role $1 may act as and whose table it may read; with a name $2,
-- the active one that has it. timezone is the zone of the members' times.
-- runs as: set owner
-- params: reader oid, name text
-- row: id uuid, name text, table_oid oid, owner oid, timezone text
select s.id, s.name, s.table_name::oid as table_oid, s.owner::oid as owner, t.timezone
from @segments@ s
join pg_class c on c.oid = s.table_name
left join @state@ t on t.segment_id = s.id
where pg_has_role($1, s.owner, @membership@) and has_table_privilege($1, c.oid, 'select')
  and ($2::text is null or s.name = $2 and s.actual_end = 'infinity')
order by s.name, s.id
