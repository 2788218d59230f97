-- Leases the messages of the subscription $1 up to and including $4, for the time $3.
-- runs as: set owner
-- params: subscription uuid, lease uuid, duration interval, through bigint
update @deliveries@ d
set lease = $2, leased_until = clock_timestamp() + $3, leased_for = $3, leased_through = $4, attempts = d.attempts + 1
where d.subscription_id = $1
