-- The active segments that leave out members of the segment $1.
-- runs as: set owner
-- params: segment uuid
-- row: id uuid, name text, owner oid
-- @edges@: config/exclusion/list_edges, e.g. select null::uuid as segment_id, null::uuid as list_id, '{id}'::text[] as by, 'named' as kind
select s.id, s.name, s.owner::oid as owner
from (
    select distinct x.segment_id
    from (
@edges@
    ) x
    where x.list_id = $1
) e
join @segments@ s on s.id = e.segment_id
order by s.name
