-- Redacts the details of alerts about the segment $1 that match one of the patterns $2.
-- runs as: set owner
-- params: segment uuid, patterns text[]
update @outbox@ o
set payload = jsonb_set(o.payload, '{alert,detail}', '"(erased)"')
where o.segment_id = $1 and o.operation = 'alert' and o.payload #>> '{alert,detail}' ~ any ($2)
