-- Who has left the segment $1, or come into it, as the operation says, and who has changed in what is
-- handed over: as members with their old values, or their new ones.
select @member@
from @delta@
where d.operation operator(pg_catalog.=) @operation@
   or (
       d.operation operator(pg_catalog.=) 'c'::pg_catalog."char"
       and pg_catalog.jsonb_build_object(@old@) operator(pg_catalog.<>) pg_catalog.jsonb_build_object(@new@)
   )
