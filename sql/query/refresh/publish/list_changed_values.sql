-- The members that were added or removed, as the operation says, and those that have changed: their old
-- and their new values, as they are.
-- runs as: table owner
-- params: segment uuid
-- row: operation "char", id text, …
-- @delta@: the delta with the alias d, e.g. segmenter_delta as d
-- @operation@: the operation, e.g. 'a'::pg_catalog."char"
-- @old@: the old values, e.g. d.id
-- @new@: the new values, e.g. d.id
select d.operation, d.id, @old@, @new@
from @delta@
where d.operation operator(pg_catalog.=) @operation@ or d.operation operator(pg_catalog.=) 'c'::pg_catalog."char"
