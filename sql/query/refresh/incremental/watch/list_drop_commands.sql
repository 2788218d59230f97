-- The statements that drop the capture triggers for the column $2, or for all columns, of the table
-- $1, its partitions and children.
-- runs as: caller
-- params: table oid, column text, changes text
-- row: command text
-- @tree@: the fragment refresh/incremental/watch/partition_tree, e.g. tree as (select $1 as relation)
with recursive @tree@
select pg_catalog.format('drop trigger %I on %I.%I', g.tgname, s.nspname, c.relname)
from tree as t
join pg_catalog.pg_class as c on c.oid operator(pg_catalog.=) t.relation
join pg_catalog.pg_namespace as s on s.oid operator(pg_catalog.=) c.relnamespace
join pg_catalog.pg_class as x on x.oid operator(pg_catalog.=) $3::pg_catalog.regclass
join pg_catalog.pg_trigger as g on g.tgrelid operator(pg_catalog.=) t.relation
join pg_catalog.pg_proc as p on p.oid operator(pg_catalog.=) g.tgfoid
    and p.proname operator(pg_catalog.=) 'segmenter_capture'
    and p.pronamespace operator(pg_catalog.=) x.relnamespace
where $2 is null
   or g.tgargs operator(pg_catalog.=) (
        pg_catalog.convert_to($2, pg_catalog.getdatabaseencoding()) operator(pg_catalog.||) pg_catalog.decode('00', 'hex')
   )
order by t.relation, g.tgname
