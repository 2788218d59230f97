-- The commands that drop the indexes of the log that the state of segments was derived from.
-- runs as: set owner
-- row: command text
select format('drop index %s', i.indexrelid::regclass)
from pg_index i
join pg_class c on c.oid = i.indexrelid
where i.indrelid = '@text:log@'::regclass and i.indpred is not null and not i.indisunique
  and c.relname ~ '_log_(refresh|subscription|receipt)_idx$'
