-- The columns of the table of the segment $1 that its last refresh has given, as far as it is known.
-- runs as: set owner
-- params: segment uuid
-- row: names text[]
select array(select n.name from jsonb_array_elements_text(t.content -> 'names') n (name) order by n.name) as names
from @state@ t
where t.segment_id = $1 and jsonb_typeof(t.content -> 'names') = 'array'
