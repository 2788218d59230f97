-- Whether the role $1 has SELECT on the table $2; null: there is no such table.
-- runs as: extension owner
-- params: reader oid, table_oid oid
-- row: may_read boolean
select has_table_privilege($1, $2, 'select') as may_read
