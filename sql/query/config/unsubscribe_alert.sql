-- Deletes the subscription of a rule of alerts that was deleted, and its messages.
-- runs as: set owner
-- params: alert uuid
with messages as (
    delete from @outbox@ o where o.subscription_id = $1
)
delete from @subscriptions@ u where u.id = $1 and u.segment_id is null
