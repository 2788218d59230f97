-- The OID of a relation by its name; null: there is none.
-- runs as: segment owner
-- params: name text
-- row: table oid
select pg_catalog.to_regclass($1)::pg_catalog.oid
