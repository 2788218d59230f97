-- The names of the segments that leave out members of the segment $1, directly or through others, and
-- whose members it leaves out itself in the same way: a cycle.
-- runs as: set owner
-- params: segment uuid
-- row: names text[]
-- @edges@: config/exclusion/list_edges, e.g. select null::uuid as segment_id, null::uuid as list_id, '{id}'::text[] as by, 'named' as kind
with recursive edges as materialized (
    select distinct x.segment_id, x.list_id
    from (
@edges@
    ) x
), up (id) as (
    select e.list_id from edges e where e.segment_id = $1
    union
    select e.list_id from up u join edges e on e.segment_id = u.id
), down (id) as (
    select e.segment_id from edges e where e.list_id = $1
    union
    select e.segment_id from down d join edges e on e.list_id = d.id
)
select array_agg(s.name order by s.id <> $1, s.name)
from @segments@ s
where s.id in (select u.id from up u) and s.id in (select d.id from down d)
