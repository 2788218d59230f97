-- All versions of the member $2 of the segment $1 that the table holds, in the form in which they
-- are handed over with these fields, as JSON texts, and whether a version is current. Only the
-- row at the place $3, if that is given.
-- runs as: table owner
-- params: segment uuid, id text, place text
-- row: member text, is_actual boolean
-- @now@: what is handed over, e.g. 'id', t.id
-- @actual@: whether a row is current, e.g. true
-- @table@: the segment table, e.g. public.vip
-- @collation@: the collation of the column id, e.g. pg_catalog."default"
select v.member::pg_catalog.text as member, v.is_actual
from (
    select
        pg_catalog.jsonb_build_object(@now@) as member,
        pg_catalog.bool_or(@actual@) as is_actual
    from only @table@ as t
    where t.segment_id operator(pg_catalog.=) $1
      and t.id operator(pg_catalog.=) $2::pg_catalog."varchar" collate @collation@
      and ($3 is null or t.ctid operator(pg_catalog.=) $3::pg_catalog.tid)
    group by 1
) as v
