-- The name of a segment whose members are in the table $1.
-- runs as: set owner
-- params: table oid
-- row: name text
select s.name
from @segments@ s
where s.table_name = $1
order by s.name
limit 1
