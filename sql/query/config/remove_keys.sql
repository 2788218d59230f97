-- A JSON object without some of its keys.
-- runs as: caller
-- params: object jsonb, keys text[]
-- row: object jsonb
select $1 operator(pg_catalog.-) $2 as object
