-- Deletes the captured changes $1. For each table and column one row without ids remains, with the
-- latest transaction that was deleted: a segment that has not read as far makes a full pass. What another
-- session is deleting is left to it.
-- runs as: extension owner
-- params: places text[]
with free as materialized (
    select c.ctid as place from @changes@ c where c.ctid = any ($1::text[]::tid[]) for update skip locked
), pruned as (
    delete from @changes@ c
    where c.ctid = any (array(select f.place from free f))
    returning c.source, c.id_column, c.xid
)
insert into @changes@ (source, id_column, xid, ids)
select p.source, p.id_column, max(p.xid), '{}'
from pruned p
where exists (select from pg_class k where k.oid = p.source)
group by p.source, p.id_column
