-- The id that a sequence gives next. pg_sequence_last_value() does not know it after ALTER SEQUENCE …
-- RESTART, and after setval(…, false), until the first id was taken.
-- runs as: set owner
-- row: next bigint
-- @sequence@: the sequence, e.g. public.prepared_outbox_id_seq
select q.last_value + q.is_called::int from @sequence@ q
