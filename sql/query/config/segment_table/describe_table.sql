-- The properties that decide whether the table $1 can store the members of the segment $3, whose
-- owner is $4. $2 is the name of the check constraint that limits a table to one segment's rows.
-- runs as: set owner
-- params: table oid, constraint text, segment uuid, owner oid
-- row: name text, is_ordinary boolean, is_kept boolean, is_service boolean, in_other_mart boolean, is_extension_member boolean, in_mart boolean, own_check text, owner oid, may_write boolean, deferred text, other_segment text
select
    quote_ident(n.nspname) || '.' || quote_ident(c.relname) as name,
    c.relkind = 'r' and not c.relispartition and c.reloftype = 0 as is_ordinary,
    c.relpersistence <> 't' as is_kept,
    exists (select from @registry_relations@ r where r.relation = c.oid) as is_service,
    exists (
        select from pg_inherits i
        join @registry@ r on r.mart = i.inhparent
        where i.inhrelid = c.oid and i.inhparent <> '@text:mart@'::regclass
    ) as in_other_mart,
    c.relnamespace = 'pg_catalog'::regnamespace or exists (
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
        where k.conrelid = c.oid and k.contype = 'c' and k.conname = $2
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
    ) as other_segment
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where c.oid = $1
