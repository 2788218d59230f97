-- The ids that have changed since $1.
select s.id
from (
@query@
) as s
where s.id is not null
group by s.id
