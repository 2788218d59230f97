-- The parts of a qualified name, split by PostgreSQL's rules.
-- runs as: caller
-- params: name text
-- row: parts text[]
select pg_catalog.parse_ident($1)
