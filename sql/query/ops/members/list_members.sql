-- The members of the segment $1: those of now, or those at a time, which the period says.
-- runs as: caller
-- params: segment uuid, at timestamp
-- row: id varchar, hash_email varchar, hash_phone varchar, actual_begin timestamp, actual_end timestamp
-- @table@: the segment table, e.g. public.vip
-- @period@: ops/members/is_current or ops/members/is_within, e.g. true
select
    (t.id)::pg_catalog."varchar" as id,
    (t.hash_email)::pg_catalog."varchar" as hash_email,
    (t.hash_phone)::pg_catalog."varchar" as hash_phone,
    (t.actual_begin)::pg_catalog."timestamp" as actual_begin,
    (t.actual_end)::pg_catalog."timestamp" as actual_end
from only @table@ as t
where t.segment_id operator(pg_catalog.=) $1 and (@period@)
