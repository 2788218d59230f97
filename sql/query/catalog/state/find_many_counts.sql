-- The segments that have more than $1 rows of counts.
-- runs as: set owner
-- params: kept bigint
-- row: segments uuid[]
select array_agg(f.segment_id) as segments
from (
    select c.segment_id from @counts@ c where c.status is not null group by c.segment_id having count(*) > $1
) f
