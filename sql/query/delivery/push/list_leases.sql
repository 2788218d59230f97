-- The subscriptions with a valid lease, of the consumers that workers serve: of the consumer $1 if
-- it is given, without the consumers $2.
-- runs as: set owner
-- params: consumer uuid, alive uuid[]
-- row: subscriptions uuid[]
select array_agg(d.subscription_id)
from @deliveries@ d
join @subscriptions@ u on u.id = d.subscription_id
join @consumers@ c on c.id = u.consumer_id
where d.leased_until > clock_timestamp() and jsonb_typeof(c.params -> 'updater') = 'object'
  and ($1::uuid is null or c.id = $1) and c.id <> all ($2)
