-- The local time, in the zone $2, before which the retention of the segment $1 keeps no membership that has ended,
-- and whether the time $3 lies before it. No row: it keeps former members.
-- runs as: set owner
-- params: segment uuid, zone text, at timestamptz
-- row: since text, keep text, is_before boolean
select
    to_char(k.since at time zone $2, 'YYYY-MM-DD HH24:MI') as since,
    s.retention ->> 'keep' as keep,
    coalesce($3 < k.since, false) as is_before
from @segments@ s
cross join lateral (select clock_timestamp() - (s.retention ->> 'keep')::interval as since) k
where s.id = $1 and s.retention ->> 'keep' is not null
