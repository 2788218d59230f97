-- The spec of the connector $1; no row: there is none of that name.
-- runs as: extension owner
-- params: name text
-- row: spec jsonb
select c.spec from @connectors@ c where c.name = $1
