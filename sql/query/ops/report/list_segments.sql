-- The active segments whose owner the role $1 is a member of (all if no policy limits it, $2), with their states.
-- What a failed refresh said may have data of the segment's sources in it, so it is left out. may_read is
-- whether the role may read the members. The segments $3 are due next at the times $4.
-- runs as: set owner
-- params: reader oid, sees_all boolean, planned uuid[], due timestamptz[]
-- row: id uuid, name text, status text, is_running boolean, reason text, since text, waits_for bigint, next_refresh text, members bigint, is_new boolean, may_read boolean
select
    s.id,
    s.name,
    case when a.status is not null then a.status when t.refreshes > 0 then 'ok' end as status,
    a.running_since is not null as is_running,
    case when a.status in ('waiting', 'refused') then a.message end as reason,
    to_char(coalesce(a.waiting_since, a.started_at, t.started_at), 'YYYY-MM-DD HH24:MI') as since,
    extract(epoch from now() - a.waiting_since)::bigint as waits_for,
    to_char(n.due, 'YYYY-MM-DD HH24:MI') as next_refresh,
    coalesce(t.members, t.coverage) as members,
    s.actual_begin > now() - interval '7 days' as is_new,
    coalesce(has_table_privilege($1, s.table_name, 'select'), false) as may_read
from @segments@ s
left join @state@ t on t.segment_id = s.id
left join @attempts@ a on a.segment_id = s.id and a.refreshes = coalesce(t.refreshes, 0)
left join unnest($3, $4) n (segment_id, due) on n.segment_id = s.id
where s.actual_end = 'infinity' and ($2 or pg_has_role($1, s.owner, @membership@))
order by s.name
