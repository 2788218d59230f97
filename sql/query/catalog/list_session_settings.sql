-- The settings by ALTER DATABASE and ALTER ROLE that a session of this role gets when it connects to
-- this database; null: there are none.
-- runs as: caller
-- row: settings text[]
select pg_catalog.array_agg(
    pg_catalog.concat_ws(' ', s.setdatabase, s.setrole, s.setconfig)
    order by s.setdatabase, s.setrole
)
from pg_catalog.pg_db_role_setting s
where s.setdatabase operator(pg_catalog.=) any (array[
        0::pg_catalog.oid,
        (select d.oid from pg_catalog.pg_database d where d.datname operator(pg_catalog.=) pg_catalog.current_database())
    ])
  and s.setrole operator(pg_catalog.=) any (array[
        0::pg_catalog.oid,
        (select r.oid from pg_catalog.pg_roles r where r.rolname operator(pg_catalog.=) session_user)
    ])
