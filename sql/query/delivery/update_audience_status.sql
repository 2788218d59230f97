-- Updates the state of the audience of the subscription $1 after a delivery, retry or skip. $2 is
-- the external id of the audience, $3 is true if the audience was deleted, $4 if the deletion was
-- the last message that was acknowledged. If another session has locked the row, only a changed
-- external id is worth waiting for.
-- runs as: set owner
-- params: subscription uuid, external_id text, is_deleted boolean, is_last boolean
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
            when $4 or d.delivered_at is null then 'not uploaded'
            else 'uploaded'
        end as status,
        case when $3 then $2 else coalesce($2, s.external_id) end as external_id
    from @subscriptions@ s
    join @deliveries@ d on d.subscription_id = s.id
    where s.id = $1
) a
where u.id = a.id and u.status <> 'failed'
  and (u.status, u.external_id) is distinct from (a.status, a.external_id)
  and (u.external_id is distinct from a.external_id or u.id in (
      select l.id from @subscriptions@ l where l.id = $1 for no key update skip locked
  ))
