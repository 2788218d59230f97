-- The time zones of the schedules of active segments whose owner $1 is a member of.
-- runs as: set owner
-- params: reader oid
-- row: findings text[]
select array_agg(array[s.name, s.refresh_timezone] order by s.name)
from @segments@ s
where s.actual_end = 'infinity' and pg_has_role($1, s.owner, @membership@) and s.refresh_timezone is not null
