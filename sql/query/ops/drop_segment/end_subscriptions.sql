-- Ends the active subscriptions to the segment $1.
-- runs as: set owner
-- params: segment uuid
update @subscriptions@ u
set actual_end = now()
where u.segment_id = $1 and u.actual_end = 'infinity'
