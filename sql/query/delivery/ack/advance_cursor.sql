-- Marks the messages of the subscription $1 up to and including $2 as delivered.
-- runs as: set owner
-- params: subscription uuid, message bigint
update @deliveries@ d
set delivered_through = $2,
    leased_until = case when d.leased_through > $2 then d.leased_until end,
    -- The remaining messages of the lease are at their first attempt.
    attempts = case when d.leased_through > $2 and d.leased_until is not null then 1 else 0 end,
    next_attempt_at = null,
    last_error = null,
    delivered_at = clock_timestamp()
where d.subscription_id = $1
