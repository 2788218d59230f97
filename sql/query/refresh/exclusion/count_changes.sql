-- How often each of the segments $1 has gained members, and how often it has lost some.
-- runs as: set owner
-- params: segments uuid[]
-- row: counts text
select json_object_agg(t.segment_id, array[t.gains, t.losses])::text
from @state@ t
where t.segment_id = any ($1)
