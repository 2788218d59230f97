-- Locks the cursor of the subscription $1, and waits for a session that has locked it. No row: nothing was
-- handed over yet.
-- runs as: set owner
-- params: subscription uuid
-- row: delivered_through bigint, leased_until text, is_leased boolean, is_failed boolean, last_error text
select
    d.delivered_through,
    date_trunc('second', d.leased_until)::text as leased_until,
    d.leased_until > clock_timestamp()
        -- Set while the clock was ahead.
        and coalesce(d.leased_until <= clock_timestamp() + d.leased_for + interval '10 seconds', true) as is_leased,
    u.status = 'failed' as is_failed,
    d.last_error
from @deliveries@ d
join @subscriptions@ u on u.id = d.subscription_id
where d.subscription_id = $1
for update of d
