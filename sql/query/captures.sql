-- The table $1 with its partitions and children, and the triggers that capture changes of the column
-- $2: sources, what tells one state of the triggers from another, those who lack some.
with recursive tree as (
    select $1 as relation
    union
    select i.inhrelid from tree t join pg_inherits i on i.inhparent = t.relation
), captures as (
    select
        t.relation,
        -- INSERT, DELETE, UPDATE and TRUNCATE, as pg_trigger.tgtype has them.
        coalesce(bit_or(g.tgtype) filter (where g.tgenabled in ('O', 'A')), 0) & (4 + 8 + 16 + 32) as events,
        string_agg(format('%s %s', g.oid, g.xmin), ',' order by g.oid) as state
    from tree t
    left join (
        pg_trigger g
        join pg_proc p on p.oid = g.tgfoid and p.proname = 'segmenter_capture'
        join pg_class e on e.oid = $3::regclass and e.relnamespace = p.pronamespace
    ) on g.tgrelid = t.relation and g.tgargs = convert_to($2, getdatabaseencoding()) || '\x00'
    group by t.relation
)
select
    array_agg(c.relation order by c.relation) as sources,
    md5(string_agg(format('%s %s', c.relation, c.state), ';' order by c.relation)) as state,
    bool_or(c.relation = $1 and c.events > 0) as is_watched,
    array_agg(c.relation::regclass::text order by c.relation) filter (where c.events <> 4 + 8 + 16 + 32) as missing
from captures c
