-- Records that the consumer of the subscription $1 requests a resync, unless a request waits already.
-- Returns a row if it is recorded.
-- runs as: set owner
-- params: subscription uuid
-- row: is_new boolean
update @deliveries@ d
set resync_requested_at = clock_timestamp()
where d.subscription_id = $1
  and (d.resync_requested_at is null or exists (
      select from @handovers@ h where h.subscription_id = d.subscription_id and h.resync_of = d.resync_requested_at
  ))
returning true as is_new
