-- Deletes the messages about the segment $1 whose subscription was deleted: no consumer can claim
-- them.
-- runs as: set owner
-- params: segment uuid
delete from @outbox@ o
where o.segment_id = $1
  and not exists (select from @subscriptions@ u where u.id = o.subscription_id)
