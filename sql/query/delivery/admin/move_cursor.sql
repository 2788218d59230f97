-- Makes the subscription $1 continue at once, after the message $2 if one is given.
-- runs as: set owner
-- params: subscription uuid, through bigint
update @deliveries@ d
set delivered_through = greatest(d.delivered_through, $2),
    lease = null,
    leased_until = null,
    attempts = 0,
    next_attempt_at = null,
    last_error = null
where d.subscription_id = $1
