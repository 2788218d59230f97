-- Members that were removed or changed (as the operation says, and those whose values to hand over have
-- changed) and whose consumer keeps them as they were; or those that were added, whom it lacks: without a
-- member.
-- runs as: table owner
-- params: segment uuid
-- row: id text, member jsonb, hash_email text, hash_phone text
-- @member@: the member as the consumer has it, or null, e.g. pg_catalog.jsonb_build_object('id', d.id)
-- @contacts@: the old contacts, e.g. null::text as hash_email, null::text as hash_phone
-- @delta@: the delta with the alias d, e.g. segmenter_delta as d
-- @operation@: the operation, e.g. 'r'::pg_catalog."char"
-- @old@: names and old values, e.g. 'id', d.id
-- @new@: names and new values, e.g. 'id', d.id
select d.id, @member@ as member, @contacts@
from @delta@
where d.operation operator(pg_catalog.=) @operation@
   or (
       d.operation operator(pg_catalog.=) 'c'::pg_catalog."char"
       and pg_catalog.jsonb_build_object(@old@) operator(pg_catalog.<>) pg_catalog.jsonb_build_object(@new@)
   )
