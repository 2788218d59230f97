-- Locks the cursor of the subscription $1. No row if another session has locked it, if a lease is
-- valid, or if the time of the next attempt has not come.
-- runs as: set owner
-- params: subscription uuid
-- row: attempts integer, has_lease boolean, last_error text
select d.attempts, d.lease is not null as has_lease, d.last_error
from @deliveries@ d
where d.subscription_id = $1
  and (d.leased_until is null or d.leased_until <= clock_timestamp())
  and (d.next_attempt_at is null or d.next_attempt_at <= clock_timestamp())
for update skip locked
