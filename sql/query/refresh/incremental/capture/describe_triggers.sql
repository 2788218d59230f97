-- The table $1 with its partitions and children, and the triggers that capture changes of its
-- column $2, as JSON: `sources` (OIDs), `state` (a hash of triggers and tables), `is_watched`, and
-- `missing` (the relations whose changes may be missed).
-- runs as: extension owner
-- params: table oid, column text, changes text
-- row: state jsonb
-- @tree@: the fragment refresh/incremental/watch/partition_tree, e.g. tree as (select $1 as relation)
with recursive @tree@, captures as (
    select
        t.relation,
        coalesce(bool_or(g.tgenabled in ('O', 'A')), false) as is_watched,
        -- The events as bits of pg_trigger.tgtype: INSERT, DELETE, UPDATE and TRUNCATE. Only
        -- triggers that fire under every session_replication_role count.
        coalesce(bit_or(g.tgtype) filter (where g.tgenabled = 'A'), 0) & (4 + 8 + 16 + 32) as events,
        string_agg(format('%s %s', g.oid, g.xmin), ',' order by g.oid) as state,
        -- ALTER TABLE can rewrite the table, or give the name to another column, and fires no
        -- trigger.
        max(format('%s %s', k.relfilenode, a.attnum)) as form,
        -- A crash empties an unlogged table, replication fills a subscribed one: neither fires a
        -- trigger.
        bool_or(k.relpersistence <> 'p' or exists (select from pg_subscription_rel r where r.srrelid = k.oid)) as is_missed
    from tree t
    join pg_class k on k.oid = t.relation
    left join pg_attribute a on a.attrelid = t.relation and a.attname = $2 and not a.attisdropped
    left join (
        pg_trigger g
        join pg_proc p on p.oid = g.tgfoid and p.proname = 'segmenter_capture'
        join pg_class e on e.oid = $3::regclass and e.relnamespace = p.pronamespace
    ) on g.tgrelid = t.relation and g.tgargs = convert_to($2, getdatabaseencoding()) || decode('00', 'hex')
    group by t.relation
)
select jsonb_build_object(
    'sources', jsonb_agg(c.relation::int8 order by c.relation),
    'state', md5(string_agg(format('%s %s %s', c.relation, c.form, c.state), ';' order by c.relation)),
    'is_watched', bool_or(c.relation = $1 and c.is_watched),
    'missing', coalesce(jsonb_agg(c.relation::regclass::text order by c.relation) filter (
        where c.events <> 4 + 8 + 16 + 32 or c.is_missed
    ), '[]')
)
from captures c
