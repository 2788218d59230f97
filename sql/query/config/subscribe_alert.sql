-- Creates the subscription of the consumer $2 that delivers the alerts of the rule $1.
-- runs as: set owner
-- params: alert uuid, consumer uuid, actual_begin timestamptz, actual_end timestamptz
insert into @subscriptions@ (id, consumer_id, target, name, actual_begin, actual_end)
values ($1, $2, 'alerts', 'alerts', $3, $4)
on conflict (id) do nothing
