-- Whether the filter of a subscription is true for the member $2 of the segment $1 as it was at the local time $3; false
-- or null if it was none then. Null if its columns may be others by now: those of former members may have been cleared
-- ($4), and it is one; or the table keeps no history ($5), and the row has changed since.
-- runs as: segment owner
-- params: segment uuid, id text, at timestamp, is_cleared boolean, keeps_history boolean
-- row: is_in boolean
-- @filter@: the condition in parentheses, e.g. (true)
-- @member@: the columns that it uses, e.g. t.id
-- @table@: the segment table, e.g. public.vip
-- @collation@: the collation of the column id, e.g. pg_catalog."default"
select pg_catalog.bool_or(case
    when $4 and t.actual_end operator(pg_catalog.<>) 'infinity'::pg_catalog.timestamp then null
    when not $5 and t.processed operator(pg_catalog.>) $3 then null
    else now.is_in is true
end) as is_in
from only @table@ as t
cross join lateral (
    select @filter@ as is_in
    from (select @member@) as member
) as now
where t.segment_id operator(pg_catalog.=) $1
  and t.id operator(pg_catalog.=) $2::pg_catalog."varchar" collate @collation@
  and t.actual_begin operator(pg_catalog.<=) $3 and t.actual_end operator(pg_catalog.>) $3
