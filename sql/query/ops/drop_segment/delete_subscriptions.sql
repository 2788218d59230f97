-- Deletes the subscriptions to the segment $1.
-- runs as: set owner
-- params: segment uuid
delete from @subscriptions@ u
where u.segment_id = $1
