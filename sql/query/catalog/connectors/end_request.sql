-- Records that the request with the user mapping $1 has ended that would have ended at $2 at the latest.
-- runs as: extension owner
-- params: mapping oid, until timestamptz
update @requests@ r
set requested_at = clock_timestamp(), time_limit = null
where r.mapping = $1 and r.requested_at = $2 and r.time_limit is not null
