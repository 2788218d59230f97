-- The tables $1, in their order: what is to be known to read members of their segments, and whether each
-- of them is an ordinary table that belongs to nothing else, has the columns of the mart, and hides no rows
-- from its owner by row-level security.
-- may_read: its owner has the privileges to read it; is_deterministic: ids that are equal are the same bytes.
-- runs as: set owner
-- params: tables oid[]
-- row: name text, owner oid, id_collation text, is_fit boolean, is_deterministic boolean, may_read boolean
select
    (
        select quote_ident(n.nspname) || '.' || quote_ident(c.relname)
        from pg_namespace n
        where n.oid = c.relnamespace
    ) as name,
    c.relowner as owner,
    (
        select quote_ident(n.nspname) || '.' || quote_ident(o.collname)
        from pg_collation o
        join pg_namespace n on n.oid = o.collnamespace
        where o.oid = k.id_collation
    ) as id_collation,
    c.relkind = 'r' and not c.relispartition and c.reloftype = 0 and c.relpersistence <> 't'
        and c.relnamespace <> 'pg_catalog'::regnamespace
        and k.fit = 7
        and not (c.relrowsecurity and c.relforcerowsecurity)
        and not exists (select from @registry_relations@ r where r.relation = c.oid)
        and not exists (
            select from pg_inherits i
            join @registry@ r on r.mart = i.inhparent
            where i.inhrelid = c.oid and i.inhparent <> '@text:mart@'::regclass
        )
        and not exists (
            select from pg_depend d
            where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e'
        ) as is_fit,
    (select o.collisdeterministic from pg_collation o where o.oid = k.id_collation) as is_deterministic,
    has_schema_privilege(c.relowner, c.relnamespace, 'usage') and has_table_privilege(c.relowner, c.oid, 'select') as may_read
from unnest($1) with ordinality l (oid, place)
left join lateral (select * from pg_class c where c.oid = l.oid limit 1) c on true
left join lateral (
    select count(*) as fit, max(case when a.attname = 'id' then a.attcollation end) as id_collation
    from pg_attribute a
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      and a.attgenerated = '' and a.attidentity = '' and a.atttypmod = -1
      and case
          when a.attname in ('id', 'hash_email', 'hash_phone') then a.atttypid = 'varchar'::regtype
          when a.attname = 'segment_id' then a.atttypid = 'uuid'::regtype and a.attnotnull
          when a.attname in ('actual_begin', 'actual_end', 'processed')
              then a.atttypid = 'timestamp'::regtype and a.attnotnull
      end
) k on true
order by l.place
