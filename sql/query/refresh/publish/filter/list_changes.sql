-- What the delta changes in the audience of a subscription with a filter: who comes (a), who leaves (r),
-- and who was in it before and is in it now (c). The filter is evaluated for the old and for the new
-- values, as far as a member has them. OFFSET 0 has it evaluated once for each of them.
-- runs as: segment owner
-- params: segment uuid
-- row: operation "char", id text
-- @filter@: the condition in parentheses, e.g. (true)
-- @old@: the columns that it uses with their old values, e.g. d.id
-- @new@: the same with their new values, e.g. d.id
-- @delta@: the delta with the alias d, e.g. segmenter_delta as d
select
    case
        when c.was_in and c.is_in then 'c'::pg_catalog."char"
        when c.was_in then 'r'
        else 'a'
    end as operation,
    c.id
from (
    select
        d.id,
        case when d.operation operator(pg_catalog.<>) 'a'::pg_catalog."char" then was.is_in else false end as was_in,
        case when d.operation operator(pg_catalog.<>) 'r'::pg_catalog."char" then now.is_in else false end as is_in
    from @delta@
    cross join lateral (
        select @filter@ is true as is_in
        from (select @old@) as member
    ) as was
    cross join lateral (
        select @filter@ is true as is_in
        from (select @new@) as member
    ) as now
    where d.operation operator(pg_catalog.=) any (array['a', 'r', 'c']::pg_catalog."char"[])
    offset 0
) as c
where c.was_in or c.is_in
