-- For the table $1 with its partitions and children: whether changes of their column $2 can be
-- captured.
-- runs as: caller
-- params: table oid, column text
-- row: relation oid, name text, is_table boolean, is_segment boolean, is_permanent boolean, is_replicated boolean, has_column boolean
-- @tree@: the fragment refresh/incremental/watch/partition_tree, e.g. tree as (select $1 as relation)
with recursive @tree@
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
        select from pg_catalog.pg_subscription_rel as r where r.srrelid operator(pg_catalog.=) c.oid
    ) as is_replicated,
    exists (
        select
        from pg_catalog.pg_attribute as a
        where a.attrelid operator(pg_catalog.=) c.oid and a.attname operator(pg_catalog.=) $2
          and a.attnum operator(pg_catalog.>) 0 and not a.attisdropped
    ) as has_column
from tree as t
join pg_catalog.pg_class as c on c.oid operator(pg_catalog.=) t.relation
order by t.relation operator(pg_catalog.<>) $1, t.relation
