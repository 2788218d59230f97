-- For the table $1 with its partitions and children: whether changes of their column $2 can be
-- captured; and the tables above it whose changes are not captured.
-- runs as: caller
-- params: table oid, column text, changes text
-- row: relation oid, name text, is_table boolean, is_segment boolean, is_permanent boolean, is_replicated boolean, has_column boolean, is_virtual boolean, uncaptured text[]
-- @tree@: the fragment refresh/incremental/watch/partition_tree, e.g. tree as (select $1 as relation)
-- @above@: the fragment refresh/incremental/watch/ancestors, e.g. above as (select $1 as relation where false)
with recursive @tree@, @above@, uncaptured as (
    select pg_catalog.array_agg(u.relation::pg_catalog.regclass::pg_catalog.text order by u.relation) as names
    from above as u
    where (
        select coalesce(pg_catalog.bit_or(g.tgtype::pg_catalog.int4), 0) operator(pg_catalog.&) 60
        from pg_catalog.pg_trigger as g
        join pg_catalog.pg_proc as p on p.oid operator(pg_catalog.=) g.tgfoid
        join pg_catalog.pg_class as x on x.oid operator(pg_catalog.=) $3::pg_catalog.regclass
        where g.tgrelid operator(pg_catalog.=) u.relation
          and p.proname operator(pg_catalog.=) 'segmenter_capture'
          and p.pronamespace operator(pg_catalog.=) x.relnamespace
          and g.tgargs operator(pg_catalog.=) (
            pg_catalog.convert_to($2, pg_catalog.getdatabaseencoding()) operator(pg_catalog.||) pg_catalog.decode('00', 'hex')
          )
          and g.tgenabled operator(pg_catalog.=) 'A'::pg_catalog."char"
    ) operator(pg_catalog.<>) 60
)
select
    t.relation,
    t.relation::pg_catalog.regclass::pg_catalog.text as name,
    c.relkind operator(pg_catalog.=) any (array['r', 'p']::pg_catalog."char"[])
        and c.oid operator(pg_catalog.>=) 16384::pg_catalog.oid as is_table,
    exists (
        select
        from pg_catalog.pg_inherits as i
        join @registry@ as m on m.mart operator(pg_catalog.=) i.inhparent
        where i.inhrelid operator(pg_catalog.=) c.oid
    ) or exists (
        select from @registry@ as m where m.mart operator(pg_catalog.=) c.oid
    ) as is_segment,
    c.relpersistence operator(pg_catalog.=) 'p'::pg_catalog."char" as is_permanent,
    exists (
        select
        from pg_catalog.pg_subscription_rel as r
        where r.srrelid operator(pg_catalog.=) c.oid
           or exists (select from above as u where u.relation operator(pg_catalog.=) r.srrelid)
    ) as is_replicated,
    a.attnum is not null as has_column,
    coalesce(a.attgenerated operator(pg_catalog.=) 'v'::pg_catalog."char", false) as is_virtual,
    n.names as uncaptured
from tree as t
join pg_catalog.pg_class as c on c.oid operator(pg_catalog.=) t.relation
left join pg_catalog.pg_attribute as a
    on a.attrelid operator(pg_catalog.=) c.oid and a.attname operator(pg_catalog.=) $2
    and a.attnum operator(pg_catalog.>) 0 and not a.attisdropped
cross join uncaptured as n
order by t.relation operator(pg_catalog.<>) $1, t.relation
