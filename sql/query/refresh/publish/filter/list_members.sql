-- The places of the members of the segment $1 for whom the filter of a subscription is true.
-- runs as: segment owner
-- params: segment uuid
-- row: place tid
-- @filter@: the condition in parentheses, e.g. (true)
-- @member@: the columns that it uses, e.g. t.id
-- @table@: the segment table, e.g. public.vip
select t.ctid as place
from only @table@ as t
cross join lateral (
    select @filter@ as is_in
    from (select @member@) as member
) as now
where t.segment_id operator(pg_catalog.=) $1
  and t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp
  and t.id is not null
  and now.is_in
