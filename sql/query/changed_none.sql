-- No row, with the column that a query for changed ids gives.
select s.id
from (
@query@
) as s
where false
