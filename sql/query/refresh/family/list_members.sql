-- The active segments of the family $1 that have the owner $2, each with the version of its state, and those of
-- them whose members it leaves out.
-- runs as: set owner
-- params: family text, owner oid
-- row: id uuid, name text, version text, lists uuid[]
-- @edges@: config/exclusion/list_edges, e.g. select null::uuid as segment_id, null::uuid as list_id, '{id}'::text[] as by, 'named' as kind
with members as materialized (
    select s.id, s.name
    from @segments@ s
    where s.refresh_params ->> 'family' = $1 and s.owner::oid = $2 and s.actual_end = 'infinity'
), edges as materialized (
    select x.segment_id, array_agg(distinct x.list_id) as lists
    from (
@edges@
    ) x
    where x.segment_id in (select m.id from members m) and x.list_id in (select m.id from members m)
    group by x.segment_id
)
select m.id, m.name, t.xmin::text as version, e.lists
from members m
left join @state@ t on t.segment_id = m.id
left join edges e on e.segment_id = m.id
order by m.name
