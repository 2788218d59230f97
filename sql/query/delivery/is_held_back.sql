-- Whether the next message of a subscription waits for others. Events of a paused subscription wait until
-- the end of what they are about. The `create` of an audience waits until another audience of the same
-- target has given up its name: by an older message that deletes it, or that has another name for it.
-- part of: delivery/claim/find_candidates, delivery/push/list_waiting_consumers
u.params @> '{"mode": "events", "paused": true}' and not exists (
    select from @outbox@ p
    where p.subscription_id = u.id and p.id > d.delivered_through and p.operation = 'delete'
)
or head.operation = 'create' and exists (
    select
    from @subscriptions@ k
    join @deliveries@ e on e.subscription_id = k.id
    join @outbox@ p on p.subscription_id = k.id and p.id > e.delivered_through and p.id < head.id
    where k.consumer_id = u.consumer_id and k.target = u.target and k.id <> u.id
      and (
          p.operation = 'delete' and head.audience in (p.audience, e.audience)
          or e.audience = head.audience and p.audience <> head.audience
      )
)
