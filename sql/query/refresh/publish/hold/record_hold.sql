-- Records that what is to be handed over to the subscription $1 is held back because of $2, with its
-- params as they are. $3: how far it is known what the consumer has of it, if something was held back.
-- runs as: set owner
-- params: subscription uuid, held text, withheld text
insert into @handovers@ as h (subscription_id, held, held_params, withheld)
select u.id, $2, u.params, $3
from @subscriptions@ u
where u.id = $1
for key share of u
on conflict (subscription_id) do update set
    held = excluded.held,
    held_params = excluded.held_params,
    withheld = case when h.withheld = 'unknown' then h.withheld else coalesce(excluded.withheld, h.withheld) end
