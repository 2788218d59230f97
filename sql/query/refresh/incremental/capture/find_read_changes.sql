-- Up to $3 captured changes that no segment still has to read. $1 is the oldest transaction that
-- some open snapshot may not see, which includes the snapshot of a segment that reads for the first
-- time. A segment that has not read since $2, or has read in the future, or whose position is from another cluster than $4, does
-- not count: its next refresh makes a full pass.
-- runs as: extension owner
-- params: horizon text, since timestamptz, limit bigint, cluster text
-- row: places text[]
with readers as materialized (
    select r.sources, r.through
    from @change_readers@ r
    where r.read_at > $2 and r.read_at < clock_timestamp() + interval '10 seconds' and r.cluster = $4
      and exists (select from @registry@ s where s.mart = r.mart)
)
select array_agg(o.ctid::text)
from (
    select c.ctid
    from @changes@ c
    where c.xid < $1::text::xid8
      and not exists (select from readers r where c.source = any (r.sources) and c.xid >= r.through)
      -- A marker of pruned changes is kept until there is a later one. Long arrays are no markers
      -- and need not be fetched.
      and case
        when pg_column_size(c.ids) < 64 and c.ids = '{}' then
            not exists (select from pg_class k where k.oid = c.source)
            or exists (
                select
                from @changes@ n
                where n.source = c.source and n.id_column = c.id_column
                  and (n.xid, n.ctid) > (c.xid, c.ctid) and n.xid < $1::text::xid8
                  and not exists (select from readers r where n.source = any (r.sources) and n.xid >= r.through)
            )
        else true
      end
    limit $3
) o
