-- The members of the segment $1, whose members are left out of another one, by the columns that are
-- compared.
-- runs as: table owner
-- params: list uuid
-- row: id text, hash_email text, hash_phone text
-- @table@: the table of the list, e.g. public.vip
-- @id@: the id, e.g. (t.id)::pg_catalog.text
-- @email@: the hash of the e-mail address, e.g. (t.hash_email)::pg_catalog.text
-- @phone@: the hash of the phone number, e.g. null::pg_catalog.text
select
    (@id@) collate pg_catalog."C" as id,
    (@email@) collate pg_catalog."C" as hash_email,
    (@phone@) collate pg_catalog."C" as hash_phone
from only @table@ as t
where t.segment_id operator(pg_catalog.=) $1
  and t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp
