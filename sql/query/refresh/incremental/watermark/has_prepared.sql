-- Whether a prepared transaction is open in this database.
-- runs as: extension owner
-- row: has_prepared boolean
select exists (select from pg_prepared_xacts p where p.database = current_database())
