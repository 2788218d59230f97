-- Marks the subscription $1 as failed: it waits for an operator.
-- runs as: set owner
-- params: subscription uuid
update @subscriptions@ u set status = 'failed' where u.id = $1 and u.status <> 'failed'
