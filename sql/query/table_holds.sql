select exists (select from only @table@ as t where t.segment_id operator(pg_catalog.=) $1)
