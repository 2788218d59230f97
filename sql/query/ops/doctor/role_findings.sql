-- The active segments, of those whose owner $1 is a member of (all if it sees their figures, $3), whose owner
-- does not exist, or whose own table belongs to a role that the owner is not a member of; and the active
-- consumers, of those whose role (or the set's owner, $2) $1 is a member of, whose role does not exist.
-- runs as: set owner
-- params: reader oid, set_owner oid, sees_figures boolean
-- row: what text, name text, owner text, table_name text, table_owner text
select *
from (
    select 'owner' as what, s.name::text, s.owner::text, null::text as table_name, null::text as table_owner
    from @segments@ s
    where s.actual_end = 'infinity' and ($3 or pg_has_role($1, s.owner, @membership@))
      and not exists (select from pg_roles r where r.oid = s.owner)
    union all
    select 'table', s.name::text, s.owner::text, c.oid::regclass::text, c.relowner::regrole::text
    from @segments@ s
    join pg_class c on c.oid = s.table_name
    where s.actual_end = 'infinity' and ($3 or pg_has_role($1, s.owner, @membership@))
      and exists (select from pg_roles r where r.oid = s.owner)
      and not pg_has_role(s.owner, c.relowner, @membership@)
      -- Segments of several owners may share a table.
      and exists (select from pg_constraint k where k.conrelid = c.oid and k.conname = 'segmenter_own_segment')
    union all
    select 'consumer', c.name::text, c.role::text, null, null
    from @consumers@ c
    where c.actual_end = 'infinity' and c.role is not null
      and ($3 or pg_has_role($1, c.role, @membership@) or pg_has_role($1, $2, @membership@))
      and not exists (select from pg_roles r where r.oid = c.role)
) f
order by f.what, f.name
