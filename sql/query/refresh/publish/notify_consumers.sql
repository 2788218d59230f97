-- Notifies the consumers $1. PostgreSQL sends equal notifications of a transaction only once.
-- runs as: set owner
-- params: consumers text[]
-- row: notified void
select pg_notify('segmenter_outbox', n.name) from unnest($1::text[]) n (name)
