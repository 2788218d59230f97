-- Calls a consumer's function with the message $1, its id and the number of the attempt, if it has these.
-- runs as: consumer role
-- params: message jsonb, message_id bigint, attempt integer
-- row: receipt jsonb
-- @function@: the function, e.g. pg_catalog.to_jsonb
-- @cast@: a cast of its result or nothing, e.g. ::pg_catalog.jsonb
select @function@($1 operator(pg_catalog.||) pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object('message_id', $2, 'attempt', $3)))@cast@
