-- The table of the active segment with the name $1, if the caller may see it.
-- runs as: caller
-- params: name text
-- row: table_name text
select table_name::text
from @segments@
where name = $1 and actual_end = 'infinity'
