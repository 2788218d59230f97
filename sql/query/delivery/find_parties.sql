-- The parties of a subscription: the owner of the segment $1, and the name, the role and the permitted
-- subscribers of the consumer $2, and the foreign server that it is served through. A column is null where the segment or the consumer does not exist.
-- runs as: set owner
-- params: segment uuid, consumer uuid
-- row: segment_owner oid, consumer text, role oid, subscribers oid[], server text
select s.owner::oid as segment_owner, c.name as consumer, c.role::oid as role, c.subscribers::oid[] as subscribers,
    case when jsonb_typeof(c.params #> '{updater,server}') = 'string' then c.params #>> '{updater,server}' end as server
from (select) one
left join @segments@ s on s.id = $1
left join @consumers@ c on c.id = $2
