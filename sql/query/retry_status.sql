-- The subscription $1 has not failed any more.
update @subscriptions@ u set status = 'queued' where u.id = $1 and u.status = 'failed'
