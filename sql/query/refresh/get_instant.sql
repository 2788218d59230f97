-- The local time at which a refresh of $1 changes members, in the time zone $2: the current time,
-- but not before the time of the last refresh, even if the clock goes back or daylight saving time
-- ends.
-- runs as: set owner
-- params: segment uuid, zone text
-- row: at timestamp
select greatest(
    timezone($2, clock_timestamp()),
    (select t.changed_at from @state@ t where t.segment_id = $1)
)
