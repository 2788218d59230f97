-- Adds a segment to the config.
-- runs as: caller
-- params: name text, table text, refresh_params jsonb, refresh_cron text
-- row: id uuid
insert into @segments@ (name, table_name, refresh_params, refresh_cron, refresh_auto)
values ($1, $2::pg_catalog.regclass, $3, $4, $4 is not null)
returning id
