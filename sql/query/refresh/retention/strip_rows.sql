-- Sets all columns to null but the id and the period, in rows of the segment $1 whose period ended before the time
-- $2, at most $3. Returns their number.
-- runs as: segment owner
-- params: segment uuid, before timestamp, limit bigint
-- row: stripped bigint
-- @table@: the segment table, e.g. public.vip
-- @assignments@: the columns, e.g. hash_email = null, hash_phone = null
-- @columns@: the same of the row, e.g. o.hash_email, o.hash_phone
with stripped as (
    update only @table@ as t
    set @assignments@
    where t.ctid operator(pg_catalog.=) any (array(
            select o.ctid
            from only @table@ as o
            where o.segment_id operator(pg_catalog.=) $1 and o.actual_end operator(pg_catalog.<) $2
              and pg_catalog.num_nonnulls(@columns@) operator(pg_catalog.>) 0
            limit $3
        ))
      and t.segment_id operator(pg_catalog.=) $1 and t.actual_end operator(pg_catalog.<) $2
    returning 1
)
select pg_catalog.count(*) as stripped from stripped
