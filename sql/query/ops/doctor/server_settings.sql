-- The time zone of new sessions, the table of pg_cron's jobs if it is installed, and
-- max_worker_processes.
-- runs as: extension owner
-- row: values text[]
select array[
    (select s.reset_val from pg_settings s where s.name = 'TimeZone'),
    to_regclass('cron.job')::text,
    current_setting('max_worker_processes')
]
