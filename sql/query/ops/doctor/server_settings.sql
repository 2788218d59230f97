-- The zone that sessions have by default, and whether pg_cron is here.
-- runs as: extension owner
-- row: values text[]
select array[
    (select s.reset_val from pg_settings s where s.name = 'TimeZone'),
    to_regclass('cron.job')::text,
    current_setting('max_worker_processes')
]
