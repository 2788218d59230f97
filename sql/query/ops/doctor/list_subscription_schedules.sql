-- The schedules of the active subscriptions to segments whose owner $1 is a member of (all if it sees their
-- figures, $2).
-- runs as: set owner
-- params: reader oid, sees_figures boolean
-- row: consumer text, target text, segment text, timezone text, cron text, resync_cron text
select c.name as consumer, u.target, s.name as segment, u.timezone, u.cron, u.params ->> 'resync_cron' as resync_cron
from @subscriptions@ u
join @segments@ s on s.id = u.segment_id
join @consumers@ c on c.id = u.consumer_id
where ($2 or pg_has_role($1, s.owner, @membership@))
  and u.actual_end = 'infinity' and s.actual_end = 'infinity' and c.actual_end = 'infinity'
  and (u.cron is not null or u.params ->> 'resync_cron' is not null)
order by c.name, u.target, s.name
