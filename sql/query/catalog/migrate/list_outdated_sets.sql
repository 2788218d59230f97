-- The sets whose definition has an older version than $1, the extension's own first.
-- runs as: extension owner
-- params: schema_version integer
-- row: marts oid[]
select array_agg(r.mart::oid order by exists (
    select from pg_depend d
    where d.classid = 'pg_class'::regclass and d.objid = r.mart and d.deptype = 'e'
) desc, r.mart)
from @registry@ r
join pg_class m on m.oid = r.mart
where r.schema_version < $1
