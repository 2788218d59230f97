-- Whether other members than $2 are, or were, handed over with the same values as one of $3, so
-- that the consumer cannot distinguish them from $2.
-- runs as: table owner
-- params: segment uuid, id text, probes text[]
-- row: is_shared boolean
-- @table@: the segment table, e.g. public.vip
-- @collation@: the collation of the column id, e.g. pg_catalog."default"
-- @now@: what is handed over, e.g. 'id', t.id
select exists (
    select
    from only @table@ as t
    where t.segment_id operator(pg_catalog.=) $1
      and t.id operator(pg_catalog.<>) $2::pg_catalog."varchar" collate @collation@
      and pg_catalog.jsonb_build_object(@now@) operator(pg_catalog.=) any (
          select p.probe::pg_catalog.jsonb from pg_catalog.unnest($3) p (probe)
      )
)
