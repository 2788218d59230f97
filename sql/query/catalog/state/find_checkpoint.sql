-- The checkpoint of the segment $1, and the number of its members if it is known.
-- runs as: set owner
-- params: segment uuid
-- row: checkpoint jsonb, members bigint
select t.checkpoint, t.members
from @state@ t
where t.segment_id = $1
