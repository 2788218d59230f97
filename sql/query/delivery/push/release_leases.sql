-- Releases the leases of the subscriptions $1, so that their messages can be claimed again. Rows
-- that another session has locked are skipped.
-- runs as: set owner
-- params: subscriptions uuid[]
update @deliveries@ d
set leased_until = null, lease = null
where d.subscription_id in (
    select l.subscription_id from @deliveries@ l where l.subscription_id = any ($1) for update skip locked
)
