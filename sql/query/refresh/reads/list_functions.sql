-- Those of the functions $1 that belong to no extension, and the bodies of those in SQL that are kept as text.
-- runs as: segment owner
-- params: functions oid[]
-- row: function oid, body text
select
    p.oid as function,
    case
        when l.lanname operator(pg_catalog.=) 'sql' and p.prosqlbody is null
            and p.proconfig is null and p.prokind operator(pg_catalog.=) 'f'
        then p.prosrc
    end as body
from pg_catalog.pg_proc as p
join pg_catalog.pg_language as l on l.oid operator(pg_catalog.=) p.prolang
where p.oid operator(pg_catalog.=) any ($1)
  and not exists (
      select
      from pg_catalog.pg_depend as d
      where d.classid operator(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
        and d.objid operator(pg_catalog.=) p.oid and d.deptype operator(pg_catalog.=) 'e'
  )
