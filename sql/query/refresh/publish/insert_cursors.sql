-- Cursors for those of the subscriptions $1 that have none. What is there is not touched: a consumer
-- may have it in hand, and a conflict would wait for him. Whoever deletes a subscription is waited
-- for, and what he has deleted is left out: the refresh is not to fail of it.
-- runs as: set owner
-- params: subscriptions uuid[]
insert into @deliveries@ (subscription_id)
select s.id
from @subscriptions@ s
where s.id = any ($1::uuid[]) and not exists (select from @deliveries@ d where d.subscription_id = s.id)
for key share of s
on conflict (subscription_id) do nothing
