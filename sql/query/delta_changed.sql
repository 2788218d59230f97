-- The delta of the ids in a relation (c): what is received (q) against the members (m), as
-- in delta.sql. Besides, o is what is received outside of them, and - who is no member, before or now.
select
    case
        when c.id is null and q.id is null then 'i'::pg_catalog."char"
        when c.id is null then 'o'
        when q.id is null and m.id is null then '-'
        when m.id is null then 'a'
        when q.id is null then 'r'
        when @differs@ then 'c'
        else '='
    end as operation,
    coalesce(c.id, q.id) as id@values@,
    m.place
from (
    select (s.id)::pg_catalog.text collate pg_catalog."C" as id
    from @ids@ as s
) as c
full join (
@received@
) as q on q.id operator(pg_catalog.=) c.id
left join lateral (
@member@
) as m on true
