-- Locks the cursor of the subscription $1. No row if another session has locked it, if a lease is
-- valid, or if the time of the next attempt has not come.
-- runs as: set owner
-- params: subscription uuid
-- row: attempts integer, has_lease boolean, last_error text
select d.attempts, d.lease is not null as has_lease, d.last_error
from @deliveries@ d
where d.subscription_id = $1
  and (
      d.leased_until is null or d.leased_until <= clock_timestamp()
      or d.leased_until > clock_timestamp() + d.leased_for + interval '10 seconds'
  )
  and (
      d.next_attempt_at is null or d.next_attempt_at <= clock_timestamp()
      or d.next_attempt_at > clock_timestamp() + d.retry_after + interval '10 seconds'
  )
for update skip locked
