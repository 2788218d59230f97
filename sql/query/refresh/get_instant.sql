-- The local time at which a refresh of $1 changes members, in the zone $2: now, but never before
-- that of an earlier refresh, whatever the clock or a change to winter time does.
-- runs as: set owner
-- params: segment uuid, zone text
-- row: at timestamp
select greatest(
    timezone($2, clock_timestamp()),
    (
        select (l.params ->> 'at')::timestamp
        from @log@ l
        where l.segment_id = $1 and l.action = 'refresh' and l.status = 'ok'
        order by l.id desc
        limit 1
    )
)
