-- What the subscriptions $1 have in hand is to be had again. One whose row somebody has is not his.
-- runs as: set owner
-- params: subscriptions uuid[]
update @deliveries@ d
set leased_until = null, lease = null
where d.subscription_id in (
    select l.subscription_id from @deliveries@ l where l.subscription_id = any ($1) for update skip locked
)
