-- The OID of the relation with the name $1; null: it does not exist.
-- runs as: segment owner
-- params: name text
-- row: table oid
select pg_catalog.to_regclass($1)::pg_catalog.oid
