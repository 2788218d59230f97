-- Records that the segment $1 reads the relations $2. Returns whether that was not known before and
-- other segments, or the mart $3, are among them: then the order of refreshes may be another one. A row
-- that another session has locked is left to that session.
-- runs as: set owner
-- params: segment uuid, relations oid[], mart oid
-- row: must_order boolean
with found as (
    select array(
        select format('%I.%I', n.nspname, k.relname)
        from pg_class k
        join pg_namespace n on n.oid = k.relnamespace
        where k.oid = any ($2)
        order by 1
    ) as reads
), changed as materialized (
    select f.reads
    from found f
    left join @attempts@ a on a.segment_id = $1
    where a.reads is distinct from f.reads
), free as materialized (
    select a.segment_id from @attempts@ a, changed c where a.segment_id = $1 for update of a skip locked
), updated as (
    update @attempts@ a set reads = c.reads from changed c, free where a.segment_id = free.segment_id
    returning a.segment_id
), inserted as (
    insert into @attempts@ (segment_id, refreshes, reads)
    select $1, coalesce((select t.refreshes from @state@ t where t.segment_id = $1), 0), c.reads
    from changed c
    where not exists (select from @attempts@ a where a.segment_id = $1)
    on conflict (segment_id) do nothing
    returning segment_id
)
select exists (select from updated union all select from inserted) and (
    $3 = any ($2)
    or exists (
        select from @segments@ s where s.id <> $1 and s.actual_end = 'infinity' and s.table_name::oid = any ($2)
    )
)
