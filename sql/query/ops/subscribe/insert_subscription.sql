-- Creates a subscription.
-- runs as: caller
-- params: consumer uuid, segment uuid, target text, params jsonb
-- row: id uuid
insert into @subscriptions@ (consumer_id, segment_id, target, params) values ($1, $2, $3, $4) returning id
