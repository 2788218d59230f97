-- The source tables without an index on the column of the load time, of active segments whose owner
-- $1 is a member of (all if it sees their figures, $2).
-- runs as: set owner
-- params: reader oid, sees_figures boolean
-- row: name text, table_name text, loaded_at text
select s.name::text, source ->> 'table' as table_name, source ->> 'loaded_at' as loaded_at
from @segments@ s
cross join jsonb_array_elements(case when jsonb_typeof(s.sources) = 'array' then s.sources else '[]' end) source
join pg_class c on c.oid = to_regclass(source ->> 'table') and c.relkind in ('r', 'p', 'm')
join pg_attribute a on a.attrelid = c.oid and a.attname = source ->> 'loaded_at' and not a.attisdropped
where s.actual_end = 'infinity' and ($2 or pg_has_role($1, s.owner, @membership@))
  and not exists (select from pg_index i where i.indrelid = c.oid and i.indkey[0] = a.attnum)
order by s.name
