-- The changes of members that waiting messages amount to, where members have their ids: a member that was added and
-- removed again is not among them, nor one that is what it was before.
-- part of: delivery/take/list_changes
-- @id@: the id of a member w, e.g. w.member operator(pg_catalog.->>) 'id'
select
    case
        when not k.was_there then 'added'
        when not k.is_there then 'removed'
        else 'changed'
    end as change,
    case when k.is_there then k.new else k.old end as member
from (
    select
        (pg_catalog.array_agg(w.is_removal order by w.message, w.place))[1] as was_there,
        (pg_catalog.array_agg(w.member order by w.message, w.place))[1] as old,
        not (pg_catalog.array_agg(w.is_removal order by w.message desc, w.place desc))[1] as is_there,
        (pg_catalog.array_agg(w.member order by w.message desc, w.place desc))[1] as new
    from segmenter_waiting as w
    -- A member without an id is told apart by what it is.
    group by @id@, case when @id@ is null then w.member end
) as k
where (k.was_there or k.is_there)
  and not (k.was_there and k.is_there and k.old operator(pg_catalog.=) k.new)
