-- The relation sets, the extension's own first, with what the scheduler needs to know of each: the role
-- that serves it (null: there is no role of its owner's name), and which relations change when there is
-- something to do.
-- runs as: extension owner
-- row: mart oid, owner oid, is_own boolean, segments oid, outbox oid
select
    m.oid as mart,
    case when o.is_own then m.relowner else r.owner::oid end as owner,
    o.is_own,
    (select k.relation::oid from @registry_relations@ k where k.mart = r.mart and k.kind = 'segments') as segments,
    (select k.relation::oid from @registry_relations@ k where k.mart = r.mart and k.kind = 'outbox') as outbox
from @registry@ r
join pg_class m on m.oid = r.mart
cross join lateral (
    select exists (
        select from pg_depend d
        where d.classid = 'pg_class'::regclass and d.objid = r.mart and d.deptype = 'e'
    ) as is_own
) o
order by o.is_own desc, m.oid
