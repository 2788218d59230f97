-- The columns of the table $1, with their types and constraints.
-- runs as: set owner
-- params: table oid
-- row: name text, type_oid oid, modifier integer, is_generated boolean, is_identity boolean, is_not_null boolean, is_unique boolean, collation text, declared text, generated_from text[]
select
    a.attname::text as name,
    a.atttypid as type_oid,
    a.atttypmod as modifier,
    a.attgenerated <> '' as is_generated,
    a.attidentity <> '' as is_identity,
    a.attnotnull as is_not_null,
    -- A unique value cannot be copied to a new version of the row, except the key of the members.
    exists (
        select from pg_index i
        where i.indrelid = a.attrelid and i.indisunique and a.attnum = any ((i.indkey::int2[])[0 : i.indnkeyatts - 1])
    ) as is_unique,
    case when a.attcollation <> 0 then (
        select quote_ident(n.nspname) || '.' || quote_ident(l.collname)
        from pg_collation l
        join pg_namespace n on n.oid = l.collnamespace
        where l.oid = a.attcollation
    ) end as collation,
    format_type(a.atttypid, a.atttypmod) as declared,
    -- The columns that its generation depends on.
    case when a.attgenerated <> '' then array(
        select c.attname::text
        from pg_attrdef e
        join pg_depend d on d.classid = 'pg_attrdef'::regclass and d.objid = e.oid
          and d.refclassid = 'pg_class'::regclass and d.refobjid = a.attrelid and d.refobjsubid <> a.attnum
        join pg_attribute c on c.attrelid = d.refobjid and c.attnum = d.refobjsubid
        where e.adrelid = a.attrelid and e.adnum = a.attnum
        order by c.attnum
    ) end as generated_from
from pg_attribute a
where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped
order by a.attnum
