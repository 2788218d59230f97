-- The parts of a qualified name, as PostgreSQL reads it.
-- runs as: caller
-- params: name text
-- row: parts text[]
select pg_catalog.parse_ident($1)
