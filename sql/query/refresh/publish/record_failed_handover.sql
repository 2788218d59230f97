-- Records that the hand-over to the subscription $1 with the fields $2 and the filter $4 failed, because
-- of $3.
-- runs as: set owner
-- params: subscription uuid, fields jsonb, error text, filter text
insert into @handovers@ as h (subscription_id, failed_fields, error, failed_filter)
select s.id, $2, $3, $4
from @subscriptions@ s
where s.id = $1
for key share of s
on conflict (subscription_id) do update set failed_fields = $2, error = $3, failed_filter = $4
