-- Members by parts of $2 at most. The order within a part has PostgreSQL sort rather than hash, so
-- that no more than one part is in memory.
select
    m.part,
    pg_catalog.count(*)::pg_catalog.int4 as members,
    pg_catalog.jsonb_agg(m.member order by m.number) as payload
from (
    select
        ((n.number operator(pg_catalog.-) 1) operator(pg_catalog./) $2 operator(pg_catalog.+) 1)::pg_catalog.int4 as part,
        n.number,
        n.member
    from (
        select pg_catalog.row_number() over () as number, i.member
        from (
@members@
        ) as i
    ) as n
) as m
group by m.part
order by m.part
