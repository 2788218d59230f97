-- The number of members that each active segment had after its last refresh, as far as it is known.
-- runs as: set owner
-- row: segment_id uuid, members bigint
select t.segment_id, t.members
from @state@ t
join @segments@ s on s.id = t.segment_id
where s.actual_end = 'infinity' and t.members is not null
