-- The relation that lists the sets.
-- runs as: extension owner
-- row: registry oid
select '@text:registry@'::regclass::oid
