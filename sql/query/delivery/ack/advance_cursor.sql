-- The subscription $1 is delivered through the message $2.
-- runs as: set owner
-- params: subscription uuid, message bigint
update @deliveries@ d
set delivered_through = $2,
    leased_until = case when d.leased_through > $2 then d.leased_until end,
    -- What is still held is at its first attempt.
    attempts = case when d.leased_through > $2 and d.leased_until is not null then 1 else 0 end,
    next_attempt_at = null,
    last_error = null,
    delivered_at = clock_timestamp()
where d.subscription_id = $1
