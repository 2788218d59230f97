-- Records that the consumer $1 was asked for its audiences, and why it has not reported them: $2.
-- runs as: set owner
-- params: consumer uuid, error text
insert into @reports@ as r (consumer_id, asked_at, error)
select c.id, clock_timestamp(), $2
from @consumers@ c
where c.id = $1
for key share of c
on conflict (consumer_id) do update set asked_at = excluded.asked_at, error = excluded.error
