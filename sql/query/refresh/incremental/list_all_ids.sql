-- All ids that a query returns, and the ids of the members of the segments $2: a member may no
-- longer be among the query's ids.
-- runs as: segment owner
-- params: since timestamptz, segments uuid[]
-- row: id text
-- @query@: the query of changed ids, e.g. select '1'::text as id where $1 is not null
-- @type@: the type of the ids with its collation, e.g. pg_catalog.text
-- @table@: the segment table, e.g. public.vip
select a.id
from (
    select s.id
    from (
@query@
    ) as s
    union all
    select (t.id)::pg_catalog.text::@type@
    from only @table@ as t
    where t.segment_id operator(pg_catalog.=) any ($2)
      and t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp
) as a
where a.id is not null
group by a.id
