-- The active segments whose owner $1 is a member of (all if it sees their figures, $2): the zone of their
-- members' times, if it is recorded, the sources whose load times lay in the future, and the zone of
-- their schedule.
-- runs as: set owner
-- params: reader oid, sees_figures boolean
-- row: name text, timezone text, sources_ahead text, schedule_zone text
select s.name::text, t.timezone, array_to_string(t.sources_ahead, ', ') as sources_ahead, s.refresh_timezone as schedule_zone
from @segments@ s
left join @state@ t on t.segment_id = s.id
where s.actual_end = 'infinity' and ($2 or pg_has_role($1, s.owner, @membership@))
order by s.name
