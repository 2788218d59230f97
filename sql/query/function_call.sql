-- Gives the message $1, with its id and which attempt it is, to a consumer's function.
select @function@($1 operator(pg_catalog.||) pg_catalog.jsonb_build_object('message_id', $2, 'attempt', $3))@cast@
