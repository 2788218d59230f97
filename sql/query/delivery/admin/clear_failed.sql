-- Sets the status of the subscription $1 from failed to queued.
-- runs as: set owner
-- params: subscription uuid
update @subscriptions@ u set status = 'queued' where u.id = $1 and u.status = 'failed'
