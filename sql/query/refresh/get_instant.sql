-- The local time at which a refresh of $1 changes members, in the zone that the statement runs in: the
-- current time, but not before the time of the last refresh, even if the clock goes back or daylight
-- saving time ends; and the zone that the members' times are in. (timezone() would take some names of zones, such as CET, for abbreviations.)
-- And what is known of the last refresh: whether there was one, the members after it, their number and their
-- content, the refresher that it ran with, and the version of the state.
-- runs as: set owner
-- params: segment uuid
-- row: at timestamp, timezone text, members bigint, content jsonb, is_refreshed boolean, ran_with text, version text
select greatest(clock_timestamp()::timestamp, t.changed_at) as at, t.timezone, t.members, t.content,
    t.refreshes > 0 as is_refreshed, t.ran_with, t.xmin::text as version
from (values ($1)) s (id)
left join @state@ t on t.segment_id = s.id
