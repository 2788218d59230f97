-- The same where members do not have their ids: equal ones are counted, and a member that has changed was removed
-- and added.
-- part of: delivery/take/list_changes
select case when k.growth operator(pg_catalog.>) 0 then 'added' else 'removed' end as change, k.member
from (
    select w.member, pg_catalog.sum(case when w.is_removal then -1 else 1 end) as growth
    from segmenter_waiting as w
    group by w.member
) as k
cross join lateral pg_catalog.generate_series(1, pg_catalog.abs(k.growth)::pg_catalog.int4) as copy
