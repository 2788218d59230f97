-- The same, as an expression that no index has: the table is read.
-- part of: refresh/family/list_changed
(t.id)::pg_catalog.text collate pg_catalog."C" operator(pg_catalog.=) (c.id)::pg_catalog.text
