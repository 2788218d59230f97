-- The commands that detach the table $1 from the mart after the segment $2 has left it; no command
-- where another segment is stored there. $3 is the name of the check constraint that limits a table
-- to one segment's rows.
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
      -- A row can name a table that belongs to another set; that table is left as it is.
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
