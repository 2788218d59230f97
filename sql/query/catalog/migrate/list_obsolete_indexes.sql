-- The commands that drop the indexes of the log that the state of segments was derived from.
-- runs as: set owner
-- row: command text
select format('drop index %s', i.indexrelid::regclass)
from pg_index i
join pg_class c on c.oid = i.indexrelid
where i.indrelid = '@text:log@'::regclass and i.indpred is not null and not i.indisunique
  and (
      c.relname like '%\_log\_refresh\_idx'
      or c.relname like '%\_log\_subscription\_idx'
      or c.relname like '%\_log\_receipt\_idx'
  )
