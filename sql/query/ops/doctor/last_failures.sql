-- The active segments whose owner $1 is a member of and whose last refresh was not ok, with its
-- status and the reason.
-- runs as: set owner
-- params: reader oid
-- row: name text, status text, message text
select s.name::text, a.status::text, a.message
from @segments@ s
left join @state@ t on t.segment_id = s.id
join @attempts@ a on a.segment_id = s.id and a.refreshes = coalesce(t.refreshes, 0)
where s.actual_end = 'infinity' and pg_has_role($1, s.owner, @membership@) and a.status is not null
order by s.name
