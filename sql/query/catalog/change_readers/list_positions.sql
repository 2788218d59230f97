-- The checkpoints of active segments that watch tables.
-- runs as: set owner
-- row: segment uuid, checkpoint text
select t.segment_id as segment, t.checkpoint::text as checkpoint
from @segments@ s
join @state@ t on t.segment_id = s.id
where s.actual_end = 'infinity' and jsonb_typeof(t.checkpoint -> 'captured') = 'object'
