-- Keeps how far the work on a message of the subscription $1 is, under the lease $2, which lasts for the
-- time $4 from now.
-- runs as: set owner
-- params: subscription uuid, lease uuid, progress jsonb, duration interval
-- row: is_held boolean
update @deliveries@ d
set progress = $3, leased_until = clock_timestamp() + $4, leased_for = $4
where d.subscription_id = $1 and d.lease = $2 and d.leased_until is not null
returning true as is_held
