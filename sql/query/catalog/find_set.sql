-- The relations of the set whose mart is $1, or that the relation $2 belongs to, or, where both are
-- null, of the extension's own set: their kinds, OIDs and current names (null: dropped), with the
-- set's mart, owner and version.
-- runs as: extension owner
-- params: mart oid, relation oid
-- row: mart oid, owner oid, is_own boolean, schema_version integer, kind text, relation oid, name text
select
    m.oid as mart,
    m.relowner as owner,
    o.is_own,
    r.schema_version,
    k.kind,
    k.relation::oid as relation,
    quote_ident(n.nspname) || '.' || quote_ident(c.relname) as name
from @registry@ r
join pg_class m on m.oid = r.mart
join @registry_relations@ k on k.mart = r.mart
left join pg_class c on c.oid = k.relation
left join pg_namespace n on n.oid = c.relnamespace
cross join lateral (
    select exists (
        select from pg_depend d
        where d.classid = 'pg_class'::regclass and d.objid = r.mart and d.deptype = 'e'
    ) as is_own
) o
where case
    when $1 is not null then r.mart = $1
    when $2 is not null then r.mart = (select b.mart from @registry_relations@ b where b.relation = $2)
    else o.is_own
end
