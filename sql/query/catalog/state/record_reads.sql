-- Records what the segment $1 reads: the relations $2, and the lineage, that is the objects $4 (functions
-- where $5 says so), each named by the view or function $6 ($7), or by the segment itself. Returns whether
-- the relations were not known before and other segments, or the mart $3, are among them: then the order
-- of refreshes may be another one. A row that another session has locked is left to that session.
-- runs as: set owner
-- params: segment uuid, relations oid[], mart oid, objects oid[], are_functions boolean[], vias oid[], vias_are_functions boolean[]
-- row: must_order boolean
with relation as materialized (
    select k.oid, format('%I.%I', n.nspname, k.relname) as name,
        case when k.relkind in ('v', 'm') then 'view' else 'table' end as kind
    from pg_class k
    join pg_namespace n on n.oid = k.relnamespace
    where k.oid = any ($2 || $4 || $6)
), function as materialized (
    select p.oid, format('%I.%I(%s)', n.nspname, p.proname, oidvectortypes(p.proargtypes)) as name
    from pg_proc p
    join pg_namespace n on n.oid = p.pronamespace
    where p.oid = any ($4 || $6)
), found as (
    select
        array(select r.name from relation r where r.oid = any ($2) order by 1) as reads,
        (
            select coalesce(jsonb_agg(
                jsonb_build_object(
                    'reads', coalesce(r.name, f.name),
                    'kind', coalesce(r.kind, 'function'),
                    'via', coalesce(v.name, w.name)
                )
                order by coalesce(r.name, f.name), coalesce(v.name, w.name) nulls first
            ), '[]')
            from unnest($4, $5, $6, $7) e (object, is_function, via, via_is_function)
            left join relation r on r.oid = e.object and not e.is_function
            left join function f on f.oid = e.object and e.is_function
            left join relation v on v.oid = e.via and not e.via_is_function
            left join function w on w.oid = e.via and e.via_is_function
            where coalesce(r.name, f.name) is not null
        ) as lineage
), changed as materialized (
    select f.reads, f.lineage, a.reads is distinct from f.reads as is_other
    from found f
    left join @attempts@ a on a.segment_id = $1
    where a.reads is distinct from f.reads or a.lineage is distinct from f.lineage
), free as materialized (
    select a.segment_id from @attempts@ a, changed c where a.segment_id = $1 for update of a skip locked
), updated as (
    update @attempts@ a
    set reads = c.reads, lineage = c.lineage
    from changed c, free
    where a.segment_id = free.segment_id
    returning c.is_other
), inserted as (
    insert into @attempts@ (segment_id, refreshes, reads, lineage)
    select $1, coalesce((select t.refreshes from @state@ t where t.segment_id = $1), 0), c.reads, c.lineage
    from changed c
    where not exists (select from @attempts@ a where a.segment_id = $1)
    on conflict (segment_id) do nothing
    returning true as is_other
)
select exists (select from (select is_other from updated union all select is_other from inserted) r where r.is_other) and (
    $3 = any ($2)
    or exists (
        select from @segments@ s where s.id <> $1 and s.actual_end = 'infinity' and s.table_name::oid = any ($2)
    )
)
