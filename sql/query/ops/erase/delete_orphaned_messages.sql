-- Messages of subscriptions to the segment $1 that were deleted: nobody will fetch them.
-- runs as: set owner
-- params: segment uuid
delete from @outbox@ o
where o.segment_id = $1
  and not exists (select from @subscriptions@ u where u.id = o.subscription_id)
