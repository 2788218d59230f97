-- Subscribes the consumer with the name $1 to a segment, if there is such a consumer.
-- runs as: segment owner
-- params: consumer text, segment uuid, target text, params jsonb
-- row: id uuid
insert into @subscriptions@ (consumer_id, segment_id, target, params)
select c.id, $2, $3, coalesce($4, '{}'::pg_catalog.jsonb)
from @consumers@ c
where c.name operator(pg_catalog.=) $1 and c.actual_end operator(pg_catalog.=) 'infinity'
returning id
