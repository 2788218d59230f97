-- The unique indexes of the table $1 that could cover the members' key.
-- runs as: set owner
-- params: table oid
-- row: columns text[], predicate text
select
    (
        select array_agg(a.attname::text order by k.position)
        from unnest(i.indkey::int2[]) with ordinality k (attnum, position)
        join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
        where k.position <= i.indnkeyatts
    ) as columns,
    pg_get_expr(i.indpred, i.indrelid) as predicate
from pg_index i
where i.indrelid = $1 and i.indisunique and i.indisvalid and i.indimmediate and i.indexprs is null
