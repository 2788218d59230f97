-- Writes a log entry.
-- runs as: set owner
-- params: run_id uuid, action text, status text, segment_id uuid, segment_name text, subscription_id uuid, target text, num_received bigint, num_invalid bigint, added bigint, removed bigint, changed bigint, coverage bigint, elapsed interval, message text, error jsonb, params jsonb, processed timestamptz, excluded bigint, definition integer, reason text
insert into @log@ (
    run_id, action, status, segment_id, segment_name, subscription_id, target, num_received, num_invalid,
    added, removed, changed, coverage, elapsed, message, error, params, processed, excluded,
    definition, reason
)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)
