-- The commands that take every segment table out of the mart and drop its views, those that
-- exist. $1 is the name of the check constraint that limits a table to one segment's rows.
-- runs as: caller
-- params: constraint text
-- row: command text
select format('alter table %s drop constraint %I', c.oid::regclass, $1)
from pg_inherits i
join pg_class c on c.oid = i.inhrelid
join pg_constraint k on k.conrelid = c.oid and k.contype = 'c' and k.conname = $1
where i.inhparent = '@text:mart@'::regclass
union all
select format('alter table %s no inherit @text:mart@', i.inhrelid::regclass)
from pg_inherits i
where i.inhparent = '@text:mart@'::regclass
union all
select format('drop view %s', c.oid::regclass)
from @registry_relations@ k
join pg_class c on c.oid = k.relation
where k.mart = '@text:mart@'::regclass and c.relkind = 'v'
