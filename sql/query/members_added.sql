-- Who has come into the segment $1, and the new values of who has changed in what is handed over.
select pg_catalog.jsonb_build_object(@new@) as member
from @delta@
where d.operation operator(pg_catalog.=) 'a'::pg_catalog."char"
   or (
       d.operation operator(pg_catalog.=) 'c'::pg_catalog."char"
       and pg_catalog.jsonb_build_object(@old@) operator(pg_catalog.<>) pg_catalog.jsonb_build_object(@new@)
   )
