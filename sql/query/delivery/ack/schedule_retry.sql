-- Records that the message of the subscription $1 could not be delivered, because of $2. The next
-- attempt is after the time $3.
-- runs as: set owner
-- params: subscription uuid, error text, retry_after interval
update @deliveries@ d
set lease = null, leased_until = null, last_error = $2, next_attempt_at = clock_timestamp() + $3,
    retry_after = $3, attempts_made = d.attempts_made + 1, attempts_failed = d.attempts_failed + 1,
    failures_in_a_row = d.failures_in_a_row + 1
where d.subscription_id = $1
