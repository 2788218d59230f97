-- A request that would be made, as a row.
-- runs as: set owner
-- params: message_id bigint, step text, method text, url text, headers jsonb, body text
-- row: message_id bigint, step text, method text, url text, headers jsonb, body text
select $1 as message_id, $2 as step, $3 as method, $4 as url, $5 as headers, $6 as body
