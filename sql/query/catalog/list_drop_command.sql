-- The command that drops the tables of a set, those that exist.
-- runs as: caller
-- row: command text
select format('drop table %s', string_agg(c.oid::regclass::text, ', ' order by c.oid))
from @registry_relations@ k
join pg_class c on c.oid = k.relation and c.relkind <> 'v'
where k.mart = '@text:mart@'::regclass
