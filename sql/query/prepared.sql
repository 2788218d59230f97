select exists (select from pg_prepared_xacts p where p.database = current_database())
