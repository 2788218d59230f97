-- The tables of the active segments whose members the role $1 may read, each with its segments.
-- runs as: set owner
-- params: reader oid
-- row: table_oid oid, ids uuid[], names text[]
select s.table_name::oid as table_oid, array_agg(s.id) as ids, array_agg(s.name) as names
from @segments@ s
join pg_class c on c.oid = s.table_name
where s.actual_end = 'infinity' and has_any_column_privilege($1, c.oid, 'select')
group by s.table_name::oid
order by min(s.name)
