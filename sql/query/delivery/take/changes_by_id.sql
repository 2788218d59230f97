-- The changes of members that waiting messages amount to, where members have their ids: a member that was added and
-- removed again is not among them, nor one that is what it was before. Whether the consumer had a person who was
-- erased is not known: one who came back is removed and added.
-- part of: delivery/take/list_changes
-- @id@: the id of a member w, e.g. w.member operator(pg_catalog.->>) 'id'
select c.change, c.member
from (
    select
        (pg_catalog.array_agg(w.is_removal order by w.message, w.place))[1] as was_there,
        (pg_catalog.array_agg(w.is_erasure order by w.message, w.place))[1] as was_erased,
        (pg_catalog.array_agg(w.member order by w.message, w.place))[1] as old,
        not (pg_catalog.array_agg(w.is_removal order by w.message desc, w.place desc))[1] as is_there,
        (pg_catalog.array_agg(w.member order by w.message desc, w.place desc))[1] as new
    from segmenter_waiting as w
    -- A member without an id is told apart by what it is.
    group by @id@, case when @id@ is null then w.member end
) as k
cross join lateral (
    select 'removed' as change, k.old as member
    where k.was_there and (k.was_erased or not k.is_there)
    union all
    select case when k.was_there and not k.was_erased then 'changed' else 'added' end, k.new
    where k.is_there and (k.was_erased or not k.was_there or k.old operator(pg_catalog.<>) k.new)
) as c
