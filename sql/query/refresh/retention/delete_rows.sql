-- Deletes rows of the segment $1 whose period ended before the time $2, at most $3. Returns their number.
-- runs as: segment owner
-- params: segment uuid, before timestamp, limit bigint
-- row: deleted bigint
-- @table@: the segment table, e.g. public.vip
with deleted as (
    delete from only @table@ as t
    where t.ctid operator(pg_catalog.=) any (array(
            select o.ctid
            from only @table@ as o
            where o.segment_id operator(pg_catalog.=) $1 and o.actual_end operator(pg_catalog.<) $2
            limit $3
        ))
      and t.segment_id operator(pg_catalog.=) $1 and t.actual_end operator(pg_catalog.<) $2
    returning 1
)
select pg_catalog.count(*) as deleted from deleted
