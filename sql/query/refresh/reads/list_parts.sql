-- The relations and functions that the views $1 and the functions $2 name, as far as the catalogue
-- knows them: of functions those with a body that was analysed when they were created.
-- runs as: segment owner
-- params: views oid[], functions oid[]
-- row: via oid, via_is_function boolean, object oid, is_function boolean
select
    r.ev_class as via,
    false as via_is_function,
    d.refobjid as object,
    d.refclassid operator(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass as is_function
from pg_catalog.pg_rewrite as r
join pg_catalog.pg_depend as d
    on d.classid operator(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass
    and d.objid operator(pg_catalog.=) r.oid
where r.ev_class operator(pg_catalog.=) any ($1)
  and r.ev_type operator(pg_catalog.=) '1'
  and d.refclassid operator(pg_catalog.=) any (
      array['pg_catalog.pg_class', 'pg_catalog.pg_proc']::pg_catalog.regclass[]
  )
  and d.refobjid operator(pg_catalog.<>) r.ev_class
union
select
    d.objid,
    true,
    d.refobjid,
    d.refclassid operator(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
from pg_catalog.pg_depend as d
where d.classid operator(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
  and d.objid operator(pg_catalog.=) any ($2)
  and d.deptype operator(pg_catalog.=) 'n'
  and d.refclassid operator(pg_catalog.=) any (
      array['pg_catalog.pg_class', 'pg_catalog.pg_proc']::pg_catalog.regclass[]
  )
  -- The argument types of a function can belong to relations, which it need not read.
  and exists (
      select
      from pg_catalog.pg_proc as p
      where p.oid operator(pg_catalog.=) d.objid and p.prosqlbody is not null
  )
