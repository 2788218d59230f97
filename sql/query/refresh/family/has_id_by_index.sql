-- Whether a member (t) has a changed id (c), looked up by the index.
-- part of: refresh/family/list_changed
-- @collation@: the collation of the column id, e.g. pg_catalog."default"
t.id operator(pg_catalog.=) (c.id)::pg_catalog.text::pg_catalog."varchar" collate @collation@
