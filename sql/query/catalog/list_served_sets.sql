-- The relation sets, with what the scheduler needs to know of each: who serves it, and which relations
-- change when there is something to do. The extension's own set comes first. A set whose owner is no role
-- any more is not served.
-- runs as: extension owner
-- row: mart oid, owner oid, is_own boolean, segments oid, outbox oid
select
    m.oid as mart,
    coalesce(r.owner::oid, m.relowner) as owner,
    o.is_own,
    s.relation::oid as segments,
    b.relation::oid as outbox
from @registry@ r
join pg_class m on m.oid = r.mart
join @registry_relations@ s on s.mart = r.mart and s.kind = 'segments'
join @registry_relations@ b on b.mart = r.mart and b.kind = 'outbox'
cross join lateral (
    select exists (
        select from pg_depend d
        where d.classid = 'pg_class'::regclass and d.objid = r.mart and d.deptype = 'e'
    ) as is_own
) o
where o.is_own or r.owner is not null
order by o.is_own desc, m.oid
