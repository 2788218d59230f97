-- The active segments whose owner $1 is a member of and whose last refresh was neither ok nor
-- skipped, with its status and the reason.
-- runs as: set owner
-- params: reader oid
-- row: findings text[]
select array_agg(array[s.name, last.status, coalesce(last.error ->> 'message', last.message, '')] order by s.name)
from @segments@ s
cross join lateral (
    select l.status, l.error, l.message
    from @log@ l
    where l.segment_id = s.id and l.action = 'refresh' and (l.params @> '{"attempted": false}') is not true
      and l.status <> 'running'
    order by l.id desc
    limit 1
) last
where s.actual_end = 'infinity' and pg_has_role($1, s.owner, @membership@) and last.status not in ('ok', 'skipped')
