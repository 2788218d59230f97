-- The subscription $1 has not failed any more.
-- runs as: set owner
-- params: subscription uuid
update @subscriptions@ u set status = 'queued' where u.id = $1 and u.status = 'failed'
