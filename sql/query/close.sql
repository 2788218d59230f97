-- Ends the membership, or the version, of what left or changed. Rows are looked up one by one and
-- then met by their place: how many of a table's rows are one segment's members PostgreSQL guesses
-- badly before it has analyzed the table, and a join on that guess might take hours. The CASE hides
-- the condition from that guess; it is for rows that somebody else has closed in between.
with d as materialized (
    select (
        select t.ctid
        from only @table@ as t
        where t.segment_id operator(pg_catalog.=) $1
          and t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp
          and t.id operator(pg_catalog.=) r.id::pg_catalog."varchar" collate @collation@
    ) as tid
    from segmenter_delta as r
    where r.operation operator(pg_catalog.=) any (@operations@)
)
update only @table@ as t
set actual_end = $2, processed = $2
from d
where t.ctid operator(pg_catalog.=) d.tid
  and case when t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp then true else false end
