-- Makes the id of the next entry of the log the one after $1.
-- runs as: set owner
-- params: through bigint
-- row: through bigint
select setval(pg_get_serial_sequence('@text:log@', 'id'), $1)
