-- Members of a list that are given: their ids $1, hashes of e-mail addresses $2 and of phone numbers $3.
-- runs as: segment owner
-- params: ids text[], emails text[], phones text[]
-- row: id text, hash_email text, hash_phone text
select
    g.id collate pg_catalog."C" as id,
    g.hash_email collate pg_catalog."C" as hash_email,
    g.hash_phone collate pg_catalog."C" as hash_phone
from rows from (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) as g (id, hash_email, hash_phone)
