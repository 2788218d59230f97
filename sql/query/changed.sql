-- The ids that have changed since $1, once each: those with another text are others.
select s.id
from (
@query@
) as s
where s.id is not null
group by @key@
