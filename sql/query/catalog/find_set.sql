-- The relation set whose mart is $1, or that the relation $2 belongs to, or, where both are null,
-- the extension's own: its owner, and the OIDs and current names of its relations (null: dropped).
-- runs as: extension owner
-- params: mart oid, relation oid
-- row: mart oid, owner oid, is_own boolean, oids oid[], names text[]
select
    m.oid as mart,
    m.relowner as owner,
    o.is_own,
    array[r.mart, r.segments, r.consumers, r.subscriptions, r.log, r.outbox, r.deliveries, r.status]::oid[] as oids,
    array(
        select quote_ident(n.nspname) || '.' || quote_ident(k.relname)
        from unnest(
            array[r.mart, r.segments, r.consumers, r.subscriptions, r.log, r.outbox, r.deliveries, r.status]
        ) with ordinality u (relation, place)
        left join pg_class k on k.oid = u.relation
        left join pg_namespace n on n.oid = k.relnamespace
        order by u.place
    ) as names
from @registry@ r
join pg_class m on m.oid = r.mart
cross join lateral (
    select exists (
        select from pg_depend d
        where d.classid = 'pg_class'::regclass and d.objid = r.mart and d.deptype = 'e'
    ) as is_own
) o
where case
    when $1 is not null then r.mart = $1
    when $2 is not null then $2 in (r.mart, r.segments, r.consumers, r.subscriptions, r.log, r.outbox, r.deliveries)
    else o.is_own
end
