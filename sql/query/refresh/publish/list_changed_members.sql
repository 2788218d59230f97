-- Who has left the segment $1, or come into it, as the operation says, and who has changed in what is
-- handed over: as members with their old values, or their new ones.
-- runs as: table owner
-- params: segment uuid
-- row: …
-- @member@: the values that are handed over, e.g. d.id
-- @delta@: the delta with the alias d, e.g. segmenter_delta as d
-- @operation@: the operation, e.g. 'a'::pg_catalog."char"
-- @old@: names and old values, e.g. 'id', d.id
-- @new@: names and new values, e.g. 'id', d.id
select @member@
from @delta@
where d.operation operator(pg_catalog.=) @operation@
   or (
       d.operation operator(pg_catalog.=) 'c'::pg_catalog."char"
       and pg_catalog.jsonb_build_object(@old@) operator(pg_catalog.<>) pg_catalog.jsonb_build_object(@new@)
   )
