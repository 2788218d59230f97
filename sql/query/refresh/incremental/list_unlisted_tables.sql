-- The names of the tables in $1 that are neither in $2 nor partitions or children of one in $2. System
-- catalogs are left out.
-- runs as: extension owner
-- params: tables oid[], listed oid[]
-- row: names text[]
with recursive listed as (
    select l.relation from unnest($2) l (relation)
    union
    select i.inhrelid from listed l join pg_inherits i on i.inhparent = l.relation
)
select array_agg(format('%I.%I', n.nspname, c.relname) order by n.nspname, c.relname)
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where c.oid = any ($1) and c.oid >= 16384 and c.oid not in (select l.relation from listed l)
