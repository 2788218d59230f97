-- The subscription $1 is delivered through the message $2.
update @deliveries@ d
set delivered_through = $2,
    leased_until = case when d.leased_through > $2 then d.leased_until end,
    attempts = 0,
    next_attempt_at = null,
    last_error = null,
    delivered_at = clock_timestamp()
where d.subscription_id = $1
