delete from @changes@ c where c.ctid = any ($1::text[]::tid[])
