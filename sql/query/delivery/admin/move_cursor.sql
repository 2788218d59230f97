-- The subscription $1 goes on at once, after the message $2 where one is given.
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
