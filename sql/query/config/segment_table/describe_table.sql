-- The properties that decide whether the table $1 can store the members of the segment $3, whose
-- owner is $4. $2 is the name of the check constraint that limits a table to one segment's rows.
-- hidden_from lists the segment's owner and the table's owner where row-level security limits the rows
-- that the role can read or write; policies that let all rows through do not. copied_check is the check
-- of a mart that CREATE TABLE (LIKE …) has copied: no row can satisfy it.
-- runs as: set owner
-- params: table oid, constraint text, segment uuid, owner oid
-- row: name text, is_ordinary boolean, is_kept boolean, is_unlogged boolean, is_service boolean, in_other_mart boolean, is_extension_member boolean, in_mart boolean, own_check text, owner oid, may_write boolean, deferred text, other_segment text, hidden_from oid[], copied_check text
select
    quote_ident(n.nspname) || '.' || quote_ident(c.relname) as name,
    c.relkind = 'r' and not c.relispartition and c.reloftype = 0 as is_ordinary,
    c.relpersistence <> 't' as is_kept,
    c.relpersistence = 'u' as is_unlogged,
    exists (select from @registry_relations@ r where r.relation = c.oid) as is_service,
    exists (
        select from pg_inherits i
        join @registry@ r on r.mart = i.inhparent
        where i.inhrelid = c.oid and i.inhparent <> '@text:mart@'::regclass
    ) as in_other_mart,
    n.nspname in ('pg_catalog', 'pg_toast', 'information_schema') or exists (
        select from pg_depend d
        where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e'
    ) as is_extension_member,
    exists (
        select from pg_inherits i
        where i.inhrelid = c.oid and i.inhparent = '@text:mart@'::regclass
    ) as in_mart,
    (
        select pg_get_expr(k.conbin, k.conrelid)
        from pg_constraint k
        where k.conrelid = c.oid and k.contypid = 0 and k.conname = $2 and k.contype = 'c'
    ) as own_check,
    c.relowner as owner,
    has_table_privilege($4, c.oid, 'select') and has_table_privilege($4, c.oid, 'insert')
        and has_table_privilege($4, c.oid, 'update') as may_write,
    case when c.relhastriggers then (
        select string_agg(distinct format('%I.%I', kn.nspname, k.conname), ', ')
        from pg_trigger g
        join pg_constraint k on k.oid = g.tgconstraint
        join pg_namespace kn on kn.oid = k.connamespace
        where g.tgrelid = c.oid and g.tgdeferrable and g.tginitdeferred
    ) end as deferred,
    (
        select s.name
        from @segments@ s
        where s.table_name = c.oid and s.actual_end = 'infinity' and s.id is distinct from $3
        order by s.name
        limit 1
    ) as other_segment,
    case when c.relrowsecurity then (
        select array_agg(r.role order by r.place)
        from (values (1, $4), (2, c.relowner)) r (place, role)
        join pg_roles a on a.oid = r.role
        where not a.rolsuper and not a.rolbypassrls
          and (c.relforcerowsecurity or not pg_has_role(a.oid, c.relowner, 'usage'))
          and (
              exists (
                  select from pg_policy p
                  where p.polrelid = c.oid and not p.polpermissive
                    and exists (select from unnest(p.polroles) m (role) where m.role = 0 or pg_has_role(a.oid, m.role, 'usage'))
              )
              or exists (
                  select from unnest('{r,a,w}'::"char"[]) k (command)
                  where not exists (
                      select from pg_policy p
                      where p.polrelid = c.oid and p.polpermissive and p.polcmd in ('*', k.command)
                        and exists (select from unnest(p.polroles) m (role) where m.role = 0 or pg_has_role(a.oid, m.role, 'usage'))
                        and (k.command = 'a' or pg_get_expr(p.polqual, p.polrelid) = 'true')
                        and (k.command = 'r' or pg_get_expr(coalesce(p.polwithcheck, p.polqual), p.polrelid) = 'true')
                  )
              )
          )
    ) end as hidden_from,
    (
        select k.conname::text
        from pg_constraint k
        where k.conrelid = c.oid and k.contype = 'c' and k.conname ~ 'holds_no_row$' and pg_get_expr(k.conbin, k.conrelid) = 'false'
        limit 1
    ) as copied_check
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where c.oid = $1
