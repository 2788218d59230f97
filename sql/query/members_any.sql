select exists (
    select
    from only @table@ as t
    where t.segment_id operator(pg_catalog.=) $1
      and t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp
)
