-- The table of the segment $1.
select s.table_name::oid from @segments@ s where s.id = $1
