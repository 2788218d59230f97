-- The table with the name $1, which a segment watches, and its column $2, as the segment's owner
-- sees them.
-- runs as: segment owner
-- params: table text, column text
-- row: oid oid, name text, id_column text, type oid, collation oid, is_readable boolean, is_filtered boolean
select
    c.oid,
    c.oid::pg_catalog.regclass::pg_catalog.text as name,
    pg_catalog.quote_ident(a.attname) as id_column,
    a.atttypid as type,
    a.attcollation as collation,
    coalesce(pg_catalog.has_column_privilege(c.oid, a.attnum, 'select'), false) as is_readable,
    pg_catalog.row_security_active(c.oid) as is_filtered
from pg_catalog.pg_class as c
left join pg_catalog.pg_attribute as a
    on a.attrelid operator(pg_catalog.=) c.oid and a.attname operator(pg_catalog.=) $2
    and a.attnum operator(pg_catalog.>) 0 and not a.attisdropped
where c.oid operator(pg_catalog.=) $1::pg_catalog.regclass
