-- How it stands with the audience of the subscription $1, after a delivery: $2 is the id that the
-- consumer has given it, $3 says that the last message delivered was its deletion. Where somebody
-- else has the row in hand only such an id is worth waiting for.
update @subscriptions@ u
set status = a.status, external_id = a.external_id
from (
    select
        s.id,
        case
            when exists (
                select from @outbox@ o
                where o.subscription_id = s.id and o.id > d.delivered_through
            ) then 'queued'
            when $3 or d.delivered_at is null then 'not uploaded'
            else 'uploaded'
        end as status,
        case when not $3 then coalesce($2, s.external_id) end as external_id
    from @subscriptions@ s
    join @deliveries@ d on d.subscription_id = s.id
    where s.id = $1
) a
where u.id = a.id and u.status <> 'failed'
  and (u.status, u.external_id) is distinct from (a.status, a.external_id)
  and ($2 is not null or u.id in (
      select l.id from @subscriptions@ l where l.id = $1 for no key update skip locked
  ))
