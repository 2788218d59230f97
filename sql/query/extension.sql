-- Where the extension lives and who owns it. Runs in the caller's search_path.
select n.nspname::pg_catalog.text, e.extowner
from pg_catalog.pg_extension e
join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) e.extnamespace
where e.extname operator(pg_catalog.=) 'segmenter'
