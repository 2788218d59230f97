-- The filter of a subscription, a condition on the columns of a segment table. It is analysed, and not
-- executed.
-- runs as: segment owner
-- row: is_in boolean
-- @filter@: the condition in parentheses, e.g. (true)
-- @member@: the columns that it can use, e.g. t.id
-- @table@: the segment table, e.g. public.vip
select @filter@ as is_in
from (
    select @member@
    from only @table@ as t
) as member
