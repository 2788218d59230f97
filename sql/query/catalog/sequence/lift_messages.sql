-- Makes the next message's id the one after $1.
-- runs as: set owner
-- params: through bigint
-- row: through bigint
select setval(pg_get_serial_sequence('@text:outbox@', 'id'), $1)
