-- Whether the filter of a subscription is true for the member $2 of the segment $1; false if there is no
-- such member.
-- runs as: segment owner
-- params: segment uuid, id text
-- row: is_in boolean
-- @filter@: the condition in parentheses, e.g. (true)
-- @member@: the columns that it uses, e.g. t.id
-- @table@: the segment table, e.g. public.vip
-- @collation@: the collation of the column id, e.g. pg_catalog."default"
select exists (
    select
    from only @table@ as t
    cross join lateral (
        select @filter@ as is_in
        from (select @member@) as member
    ) as now
    where t.segment_id operator(pg_catalog.=) $1
      and t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp
      and t.id operator(pg_catalog.=) $2::pg_catalog."varchar" collate @collation@
      and now.is_in
)
