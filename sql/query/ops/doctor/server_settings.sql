-- The time zone of new sessions, the table of pg_cron's jobs if it is installed, max_worker_processes,
-- and where segmenter.timezone was set for the database (null: nowhere).
-- runs as: extension owner
-- row: values text[]
select array[
    (select s.reset_val from pg_settings s where s.name = 'TimeZone'),
    to_regclass('cron.job')::text,
    current_setting('max_worker_processes'),
    coalesce(
        (
            select 'database'
            from pg_db_role_setting r
            cross join lateral unnest(r.setconfig) c (setting)
            where r.setrole = 0 and r.setdatabase in (0, (select d.oid from pg_database d where d.datname = current_database()))
              and lower(c.setting) like 'segmenter.timezone=%'
            limit 1
        ),
        (
            select 'server'
            from pg_settings s
            where s.name = 'segmenter.timezone'
              and (s.source in ('configuration file', 'command line', 'environment variable') or s.reset_val <> s.boot_val)
        )
    )
]
