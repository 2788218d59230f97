-- The number of active segments that belong to the family with the name $1 and the owner $2.
-- runs as: set owner
-- params: family text, owner oid
-- row: number bigint
select count(*)
from @segments@ s
where s.refresh_params ->> 'family' = $1 and s.owner::oid = $2 and s.actual_end = 'infinity'
