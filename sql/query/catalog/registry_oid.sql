-- The OID of the relation in which sets are registered.
-- runs as: extension owner
-- row: registry oid
select '@text:registry@'::regclass::oid
