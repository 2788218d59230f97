-- Whether the table $2 is that of the segment $1 and the caller may see the segment: the policy of the
-- mart asks this for each table that a query reads. It runs in the caller's search_path.
-- runs as: caller
-- params: segment uuid, in_table oid
-- row: may_see boolean
select exists (
    select from @segments@ s
    where s.id operator(pg_catalog.=) $1 and s.table_name::pg_catalog.oid operator(pg_catalog.=) $2
)
