-- The key of the lock of the segment $1.
select uuid_hash_extended($1, '@text:segments@'::regclass::oid::bigint)
