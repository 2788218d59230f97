-- A hash of what decides, beside rows, what the relations $1 and the functions $2 give: the definitions of
-- views and functions, and row-level security. It is the same for objects that were created again as they were.
-- runs as: set owner
-- params: relations oid[], functions oid[]
-- row: hash text
select pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(
    pg_catalog.string_agg(d.definition, pg_catalog.chr(10) order by d.definition collate pg_catalog."C"), 'UTF8'
)), 'hex')
from (
    select pg_catalog.concat_ws(' ', 'view', n.nspname, c.relname, pg_catalog.pg_get_viewdef(c.oid)) as definition
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace
    where c.oid operator(pg_catalog.=) any ($1) and c.relkind operator(pg_catalog.=) 'v'
    union all
    select pg_catalog.concat_ws(
        ' ', 'function', n.nspname, p.proname, p.prosrc, p.prosqlbody::pg_catalog.text, p.proconfig, p.prosecdef
    )
    from pg_catalog.pg_proc p
    join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) p.pronamespace
    where p.oid operator(pg_catalog.=) any ($2)
    union all
    select pg_catalog.concat_ws(' ', 'row security', n.nspname, c.relname, c.relforcerowsecurity)
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace
    where c.oid operator(pg_catalog.=) any ($1) and c.relrowsecurity
    union all
    select pg_catalog.concat_ws(
        ' ', 'policy', n.nspname, c.relname, o.polname, o.polpermissive, o.polroles, o.polqual::pg_catalog.text
    )
    from pg_catalog.pg_policy o
    join pg_catalog.pg_class c on c.oid operator(pg_catalog.=) o.polrelid
    join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace
    where o.polrelid operator(pg_catalog.=) any ($1) and c.relrowsecurity and o.polqual is not null
) d
