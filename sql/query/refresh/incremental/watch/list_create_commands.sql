-- The statements that create the missing capture triggers for the column $2 of the table $1, its
-- partitions and children. The triggers of statements fire under every session_replication_role. What a
-- subscription applies fires no trigger of a statement: one more, for rows, fires there alone.
-- runs as: caller
-- params: table oid, column text, changes text
-- row: command text
-- @tree@: the fragment refresh/incremental/watch/partition_tree, e.g. tree as (select $1 as relation)
with recursive @tree@, events (event, bit, enabled, what, enable) as (
    values
        ('insert', 4, 'A', 'after insert on %s referencing new table as segmenter_new for each statement', 'always'),
        ('delete', 8, 'A', 'after delete on %s referencing old table as segmenter_old for each statement', 'always'),
        (
            'update', 16, 'A',
            'after update on %s referencing old table as segmenter_old new table as segmenter_new for each statement', 'always'
        ),
        ('truncate', 32, 'A', 'after truncate on %s for each statement', 'always'),
        ('replica', 1, 'R', 'after insert or update or delete on %s for each row', 'replica')
), missing as (
    select
        pg_catalog.format('%I.%I', s.nspname, c.relname) as relation,
        -- A long column name is replaced by its hash: a name has at most 63 bytes.
        case
            when pg_catalog.octet_length($2) operator(pg_catalog.<=) 40 then pg_catalog.format('segmenter_%s_%s', e.event, $2)
            else pg_catalog.format('segmenter_%s_%s', e.event, pg_catalog.md5($2))
        end as name,
        e.event,
        e.what,
        e.enable,
        f.nspname as schema,
        t.relation as oid
    from tree as t
    join pg_catalog.pg_class as c on c.oid operator(pg_catalog.=) t.relation
    join pg_catalog.pg_namespace as s on s.oid operator(pg_catalog.=) c.relnamespace
    join pg_catalog.pg_class as x on x.oid operator(pg_catalog.=) $3::pg_catalog.regclass
    join pg_catalog.pg_namespace as f on f.oid operator(pg_catalog.=) x.relnamespace
    cross join events as e
    where (e.enable operator(pg_catalog.=) 'always' or c.relkind operator(pg_catalog.=) 'r'::pg_catalog."char")
      and not exists (
        select
        from pg_catalog.pg_trigger as g
        join pg_catalog.pg_proc as p on p.oid operator(pg_catalog.=) g.tgfoid
        where g.tgrelid operator(pg_catalog.=) t.relation
          and p.proname operator(pg_catalog.=) 'segmenter_capture'
          and p.pronamespace operator(pg_catalog.=) x.relnamespace
          and g.tgargs operator(pg_catalog.=) (
            pg_catalog.convert_to($2, pg_catalog.getdatabaseencoding()) operator(pg_catalog.||) pg_catalog.decode('00', 'hex')
          )
          and (g.tgtype::pg_catalog.int4 operator(pg_catalog.&) e.bit) operator(pg_catalog.<>) 0
          and g.tgenabled operator(pg_catalog.=) e.enabled::pg_catalog."char"
    )
)
select s.statement
from missing as m
cross join lateral (
    values
        (1, pg_catalog.format(
            'create or replace trigger %I %s execute function %I.segmenter_capture(%L)',
            m.name, pg_catalog.format(m.what, m.relation), m.schema, $2
        )),
        (2, pg_catalog.format('alter table only %s enable %s trigger %I', m.relation, m.enable, m.name))
) as s (step, statement)
order by m.oid, m.event, s.step
