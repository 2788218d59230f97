-- The hashes of the person $2 in the segment $1 at the local time $3, by default now: of the last period that had begun.
-- is_open: it has not ended; the columns of one that has may have been cleared. is_older: the row was not changed since.
-- runs as: caller
-- params: segment uuid, id text, at timestamp
-- row: email text, phone text, is_open boolean, is_older boolean
-- @table@: the segment table, e.g. public.vip
select
    (t.hash_email)::pg_catalog.text as email,
    (t.hash_phone)::pg_catalog.text as phone,
    t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog."timestamp" as is_open,
    $3::pg_catalog."timestamp" is null or (t.processed)::pg_catalog."timestamp" operator(pg_catalog.<=) $3 as is_older
from only @table@ as t
where t.segment_id operator(pg_catalog.=) $1 and t.id operator(pg_catalog.=) $2::pg_catalog."varchar"
  and ($3::pg_catalog."timestamp" is null or t.actual_begin operator(pg_catalog.<=) $3)
order by t.actual_begin desc, t.actual_end desc
limit 1
