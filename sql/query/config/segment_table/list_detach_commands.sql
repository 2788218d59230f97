-- The commands that take the table $1 out of the mart once the segment $2 has left it; none where
-- another segment is kept there. $3: the constraint that says whose its rows are.
-- runs as: set owner
-- params: table oid, segment uuid, constraint text
-- row: command text
with released as (
    select c.oid, quote_ident(n.nspname) || '.' || quote_ident(c.relname) as name
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where c.oid = $1
      and not exists (
          select from @segments@ s where s.table_name = c.oid and s.id <> $2
      )
      -- A row may be of a table that another set keeps its segments in.
      and not exists (
          select from pg_inherits i
          join @registry@ r on r.mart = i.inhparent
          where i.inhrelid = c.oid and i.inhparent <> '@text:mart@'::regclass
      )
)
select 'alter table ' || r.name || ' drop constraint ' || quote_ident($3)
from released r
join pg_constraint k on k.conrelid = r.oid and k.contype = 'c' and k.conname = $3
union all
select 'alter table ' || r.name || ' no inherit ' || '@text:mart@'::regclass
from released r
join pg_inherits i on i.inhrelid = r.oid and i.inhparent = '@text:mart@'::regclass
