-- The time zones of the schedules of active segments whose owner $1 is a member of (all if it sees their figures, $2).
-- runs as: set owner
-- params: reader oid, sees_figures boolean
-- row: name text, zone text
select s.name::text, s.refresh_timezone::text as zone
from @segments@ s
where s.actual_end = 'infinity' and ($2 or pg_has_role($1, s.owner, @membership@)) and s.refresh_timezone is not null
order by s.name
