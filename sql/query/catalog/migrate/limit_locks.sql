-- Limits how long a set that is migrated waits for a lock, until the statements on it have ended.
-- runs as: set owner
-- row: timeout text
select set_config('lock_timeout', '5s', true)
