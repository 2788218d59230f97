-- How the members of the segments $1 of one table resemble the ids, by the members of both as a part of all: the
-- three that do most, those that have any in common.
-- runs as: caller
-- params: segments uuid[], number bigint
-- row: id uuid, jaccard text
-- @table@: the segment table, e.g. public.vip
-- @ids@: the relation of ids, e.g. (select 'a' as id)
select r.segment_id as id, pg_catalog.trim_scale(r.jaccard)::pg_catalog.text as jaccard
from (
    select
        t.segment_id,
        pg_catalog.count(p.id)::pg_catalog."numeric"
            operator(pg_catalog./) (pg_catalog.count(*) operator(pg_catalog.+) $2 operator(pg_catalog.-) pg_catalog.count(p.id))::pg_catalog."numeric"
            as jaccard
    from only @table@ as t
    left join @ids@ as p on p.id operator(pg_catalog.=) (t.id)::pg_catalog.text collate pg_catalog."C"
    where t.segment_id operator(pg_catalog.=) any ($1)
      and t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog."timestamp" and t.id is not null
    group by t.segment_id
    having pg_catalog.count(p.id) operator(pg_catalog.>) 0
) r
order by r.jaccard desc
limit 3
