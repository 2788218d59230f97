-- The key of the advisory lock of the segment $1.
-- runs as: set owner
-- params: segment uuid
-- row: key bigint
select uuid_hash_extended($1, '@text:segments@'::regclass::oid::bigint)
