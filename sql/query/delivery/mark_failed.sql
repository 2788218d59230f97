-- The subscription $1 waits for a person.
-- runs as: set owner
-- params: subscription uuid
update @subscriptions@ u set status = 'failed' where u.id = $1 and u.status <> 'failed'
