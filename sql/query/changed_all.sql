-- All ids that a query gives, and those of the segment $2's members, which it may have forgotten.
select a.id
from (
    select s.id
    from (
@query@
    ) as s
    union all
    select (t.id)::pg_catalog.text::@type@
    from only @table@ as t
    where t.segment_id operator(pg_catalog.=) $2
      and t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp
) as a
where a.id is not null
group by a.id
