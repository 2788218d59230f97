-- What the segment $1 has kept of the added members of the relation segmenter_delta since they were members
-- before, in a table without history.
-- runs as: segment owner
-- params: segment uuid
-- row: id text, hash_email text, hash_phone text
-- @table@: the segment table, e.g. public.vip
-- @collation@: the collation of the column id, e.g. pg_catalog."default"
select
    d.id,
    (t.hash_email)::pg_catalog.text collate pg_catalog."C" as hash_email,
    (t.hash_phone)::pg_catalog.text collate pg_catalog."C" as hash_phone
from segmenter_delta as d
join only @table@ as t
    on t.segment_id operator(pg_catalog.=) $1
    and t.id operator(pg_catalog.=) d.id::pg_catalog."varchar" collate @collation@
where d.operation operator(pg_catalog.=) 'a'::pg_catalog."char"
