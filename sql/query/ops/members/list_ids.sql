-- The ids of one of several segments, with the bits that say which one it is.
-- part of: ops/members/count_regions
-- @table@: the segment table, e.g. public.vip
-- @number@: the number of the segment, from 1, e.g. 1
-- @bits@: a column for each 63 segments, each after a comma, e.g. , 1::bigint as w1
-- @period@: ops/members/is_current or ops/members/is_within, e.g. true
select (t.id)::pg_catalog.text collate pg_catalog."C" as id@bits@
from only @table@ as t
where t.segment_id operator(pg_catalog.=) ($1)[@number@] and t.id is not null and (@period@)
