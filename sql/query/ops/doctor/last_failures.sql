-- The active segments whose owner $1 is a member of and whose last refresh was not ok, with its
-- status and the reason.
-- runs as: set owner
-- params: reader oid
-- row: findings text[]
select array_agg(array[s.name, t.status, coalesce(t.message, '')] order by s.name)
from @segments@ s
join @state@ t on t.segment_id = s.id
where s.actual_end = 'infinity' and pg_has_role($1, s.owner, @membership@) and t.status <> 'ok'
