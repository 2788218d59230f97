-- Records what the segment $1 reads: the names $2 of the relations $4, and the lineage $3. Returns whether
-- the relations were not known before and other segments, or the mart $5, are among them: then the order
-- of refreshes may be another one. A row that another session has locked is left to that session.
-- runs as: set owner
-- params: segment uuid, reads text[], lineage jsonb, relations oid[], mart oid
-- row: must_order boolean
with free as materialized (
    select a.segment_id, a.reads is distinct from $2 as is_other
    from @attempts@ a
    where a.segment_id = $1
    for update of a skip locked
), updated as (
    update @attempts@ a
    set reads = $2, lineage = $3
    from free
    where a.segment_id = free.segment_id
    returning free.is_other
), inserted as (
    insert into @attempts@ (segment_id, refreshes, reads, lineage)
    select $1, coalesce((select t.refreshes from @state@ t where t.segment_id = $1), 0), $2, $3
    where not exists (select from @attempts@ a where a.segment_id = $1)
    on conflict (segment_id) do nothing
    returning true as is_other
)
select exists (select from (select is_other from updated union all select is_other from inserted) r where r.is_other) and (
    $5 = any ($4)
    or exists (
        select from @segments@ s where s.id <> $1 and s.actual_end = 'infinity' and s.table_name::oid = any ($4)
    )
)
