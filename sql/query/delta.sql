-- The delta: what is received (q) against the members (m). The first column says what a row is:
-- (a)dded, (r)emoved, (c)hanged, (i)nvalid for want of a key, or = for unchanged.
-- n1, n2, … are the new values of the segment table's columns, o1, o2, … the old ones; place is where the
-- old row is.
select
    case
        when q.id is null and m.id is null then 'i'::pg_catalog."char"
        when m.id is null then 'a'
        when q.id is null then 'r'
        when @differs@ then 'c'
        else '='
    end as operation,
    coalesce(q.id, m.id) as id@values@,
    m.place
from (
@received@
) as q
full join (
@members@
) as m on q.id operator(pg_catalog.=) m.id
