-- Cursors for those of the subscriptions $1 that have none. What is there is not touched: a consumer
-- may have it in hand, and a conflict would wait for him.
insert into @deliveries@ (subscription_id)
select s.id
from unnest($1::uuid[]) s (id)
where not exists (select from @deliveries@ d where d.subscription_id = s.id)
on conflict (subscription_id) do nothing
