-- Creates delivery cursors for those of the subscriptions $1 that have none. Existing cursors are
-- filtered out first: a consumer may have locked one, and ON CONFLICT would wait for it. FOR KEY
-- SHARE waits for a concurrent deletion of a subscription and then leaves it out, so that the
-- refresh does not fail.
-- runs as: set owner
-- params: subscriptions uuid[]
insert into @deliveries@ (subscription_id)
select s.id
from @subscriptions@ s
where s.id = any ($1::uuid[]) and not exists (select from @deliveries@ d where d.subscription_id = s.id)
for key share of s
on conflict (subscription_id) do nothing
