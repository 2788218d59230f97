-- Gives a message of the subscription $1 back, under the lease $2: it goes on after the time $4. That is
-- no attempt.
-- runs as: set owner
-- params: subscription uuid, lease uuid, progress jsonb, duration interval
-- row: is_held boolean
update @deliveries@ d
set progress = $3, lease = null, leased_until = null, attempts = greatest(d.attempts - 1, 0),
    next_attempt_at = clock_timestamp() + $4, retry_after = $4
where d.subscription_id = $1 and d.lease = $2 and d.leased_until is not null
returning true as is_held
