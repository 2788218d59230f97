-- Records that the consumer $1 has reported the audiences $2, in place of those that it reported before; with $3
-- it was asked for them. Also, which of its subscriptions have an audience there as far as it is known.
-- runs as: set owner
-- params: consumer uuid, audiences jsonb, was_asked boolean
insert into @reports@ as r (consumer_id, audiences, expected, reported_at, asked_at)
select
    c.id,
    $2,
    array(
        select u.id
        from @subscriptions@ u
        join @handovers@ h on h.subscription_id = u.id
        join @deliveries@ d on d.subscription_id = u.id
        where u.consumer_id = c.id and h.has_audience and (u.external_id is not null or d.audience is not null)
    ),
    n.now,
    case when $3 then n.now end
from @consumers@ c
cross join (select clock_timestamp() as now) n
where c.id = $1
for key share of c
on conflict (consumer_id) do update set
    audiences = excluded.audiences,
    expected = excluded.expected,
    reported_at = excluded.reported_at,
    asked_at = coalesce(excluded.asked_at, r.asked_at),
    error = null
