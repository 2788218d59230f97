-- The cursors of the subscriptions $1.
insert into @deliveries@ (subscription_id)
select unnest($1::uuid[])
on conflict (subscription_id) do nothing
