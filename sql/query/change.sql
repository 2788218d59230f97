-- Changes members in place, found as in close.sql.
with d as materialized (
    select r.*, (
        select t.ctid
        from only @table@ as t
        where t.segment_id operator(pg_catalog.=) $1
          and t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp
          and t.id operator(pg_catalog.=) r.id::pg_catalog."varchar" collate @collation@
    ) as tid
    from segmenter_delta as r
    where r.operation operator(pg_catalog.=) 'c'::pg_catalog."char"
)
update only @table@ as t
set @assignments@, processed = $2
from d
where t.ctid operator(pg_catalog.=) d.tid
  and case when t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp then true else false end
