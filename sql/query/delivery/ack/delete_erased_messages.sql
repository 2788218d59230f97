-- Deletes messages that an erasure wrote, once they are delivered: they hold data of the person.
-- runs as: set owner
-- params: subscription uuid, message bigint
delete from @outbox@ o
where o.subscription_id = $1 and o.id <= $2 and o.is_erasure
