-- Whether the process $1 runs a statement, as far as the caller may see it.
-- runs as: caller
-- params: pid integer
-- row: is_active boolean
select exists (
    select from pg_stat_activity a
    where a.pid = $1 and a.state = 'active' and a.pid <> pg_backend_pid()
) as is_active
