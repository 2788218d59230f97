-- Makes a rule of alerts.
-- runs as: caller
-- params: consumer uuid, rule jsonb
-- row: id uuid
insert into @alerts@ (consumer_id, rule) values ($1, $2) returning id
