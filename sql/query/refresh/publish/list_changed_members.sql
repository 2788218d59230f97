-- The members that were added or removed, as the operation says, and those whose values to hand
-- over have changed: the id, and the old values for a removal, otherwise the new values.
-- runs as: table owner
-- params: segment uuid
-- row: id text, …
-- @member@: the values that are handed over, e.g. d.id
-- @delta@: the delta with the alias d, e.g. segmenter_delta as d
-- @operation@: the operation, e.g. 'a'::pg_catalog."char"
-- @old@: names and old values, e.g. 'id', d.id
-- @new@: names and new values, e.g. 'id', d.id
select d.id, @member@
from @delta@
where d.operation operator(pg_catalog.=) @operation@
   or (
       d.operation operator(pg_catalog.=) 'c'::pg_catalog."char"
       and pg_catalog.jsonb_build_object(@old@) operator(pg_catalog.<>) pg_catalog.jsonb_build_object(@new@)
   )
