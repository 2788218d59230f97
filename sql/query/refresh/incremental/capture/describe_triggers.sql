-- The table $1 with its partitions and children, the tables above it, and the triggers that capture
-- changes of its column $2, as JSON: `sources` (OIDs), `state` (a hash of triggers and tables, as version
-- 1.0.0 has stored it), `parents` (a hash of the tables above and of the column), `is_watched`, and
-- `missing` (the relations whose changes may be missed, and why).
-- runs as: extension owner
-- params: table oid, column text, changes text
-- row: state jsonb
-- @tree@: the fragment refresh/incremental/watch/partition_tree, e.g. tree as (select $1 as relation)
-- @above@: the fragment refresh/incremental/watch/ancestors, e.g. above as (select $1 as relation where false)
with recursive @tree@, @above@, captures as (
    select
        t.relation,
        bool_and(t.is_parent) as is_parent,
        coalesce(bool_or(g.tgenabled in ('O', 'A')), false) as is_watched,
        -- The events as bits of pg_trigger.tgtype: INSERT, DELETE, UPDATE and TRUNCATE. Only
        -- triggers that fire under every session_replication_role count.
        coalesce(bit_or(g.tgtype) filter (where g.tgenabled = 'A'), 0) & (4 + 8 + 16 + 32) as events,
        string_agg(format('%s %s', g.oid, g.xmin), ',' order by g.oid) as state,
        -- ALTER TABLE can rewrite the table, or give the name to another column, and fires no
        -- trigger.
        max(format('%s %s', k.relfilenode, a.attnum)) as form,
        -- After the table got a parent, or lost it, the row of the column is a new one.
        max(a.xmin::text) as changed,
        -- A crash empties an unlogged table, replication fills a subscribed one: neither fires a
        -- trigger. A virtual column has no value in the rows that a trigger gets.
        bool_or(k.relpersistence <> 'p') as is_unlogged,
        bool_or(exists (select from pg_subscription_rel r where r.srrelid = k.oid)) as is_replicated,
        coalesce(bool_or(a.attgenerated = 'v'), false) as is_virtual
    from (select d.relation, false as is_parent from tree d union all select u.relation, true from above u) t
    join pg_class k on k.oid = t.relation
    left join pg_attribute a on a.attrelid = t.relation and a.attname = $2 and not a.attisdropped
    left join (
        pg_trigger g
        join pg_proc p on p.oid = g.tgfoid and p.proname = 'segmenter_capture'
        join pg_class e on e.oid = $3::regclass and e.relnamespace = p.pronamespace
    ) on g.tgrelid = t.relation and g.tgargs = convert_to($2, getdatabaseencoding()) || decode('00', 'hex')
    group by t.relation
), judged as (
    select
        c.*,
        case
            when c.is_virtual then 'virtual'
            when c.is_replicated then 'replicated'
            when c.is_unlogged then 'unlogged'
            when c.events = 4 + 8 + 16 + 32 then null
            when c.is_parent then 'parent'
            else 'trigger'
        end as why
    from captures c
)
select jsonb_build_object(
    'sources', jsonb_agg(c.relation::int8 order by c.relation),
    'state', md5(string_agg(format('%s %s %s', c.relation, c.form, c.state), ';' order by c.relation) filter (where not c.is_parent)),
    'parents', md5(string_agg(
        format('%s %s %s %s', c.relation, c.changed, c.is_replicated, case when c.is_parent then c.state end), ';' order by c.relation
    )),
    'is_watched', bool_or(c.relation = $1 and c.is_watched),
    'missing', coalesce(jsonb_agg(
        jsonb_build_object('table', c.relation::regclass::text, 'why', c.why) order by c.is_parent, c.relation
    ) filter (where c.why is not null), '[]')
)
from judged c
