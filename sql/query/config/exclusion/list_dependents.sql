-- The active segments that leave out members of the segment $1. is_priority: only their priority makes
-- them do so.
-- runs as: set owner
-- params: segment uuid
-- row: id uuid, name text, owner oid, is_priority boolean
-- @edges@: config/exclusion/list_edges, e.g. select null::uuid as segment_id, null::uuid as list_id, '{id}'::text[] as by, 'named' as kind
select s.id, s.name, s.owner::oid as owner, e.is_priority
from (
    select x.segment_id, bool_and(x.kind = 'priority') as is_priority
    from (
@edges@
    ) x
    where x.list_id = $1
    group by x.segment_id
) e
join @segments@ s on s.id = e.segment_id
order by s.name
