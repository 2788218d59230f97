-- Deletes the captured changes $1. That there were some is kept, without ids: who has not read as far as
-- that looks at all ids.
-- runs as: extension owner
-- params: places text[]
with pruned as (
    delete from @changes@ c where c.ctid = any ($1::text[]::tid[]) returning c.source, c.id_column, c.xid
)
insert into @changes@ (source, id_column, xid, ids)
select p.source, p.id_column, max(p.xid), '{}'
from pruned p
where exists (select from pg_class k where k.oid = p.source)
group by p.source, p.id_column
