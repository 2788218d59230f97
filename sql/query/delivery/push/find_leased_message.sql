-- The message that a worker delivers to the consumer $1, and its lease.
-- runs as: set owner
-- params: consumer uuid
-- row: lease uuid, message_id bigint
select d.lease, d.leased_through as message_id
from @deliveries@ d
join @subscriptions@ u on u.id = d.subscription_id
where u.consumer_id = $1 and d.leased_until > clock_timestamp() and d.leased_through > d.delivered_through
order by d.leased_until desc
limit 1
