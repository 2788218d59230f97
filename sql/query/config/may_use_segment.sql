-- Whether the role $2 may act as the owner of the segment $1. No row: there is no such segment.
-- runs as: set owner
-- params: segment uuid, caller oid
-- row: is_permitted boolean
select pg_has_role($2, s.owner, @membership@) from @segments@ s where s.id = $1
