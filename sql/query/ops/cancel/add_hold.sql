-- The time that is $1 from now, and whether it is later than now.
-- runs as: caller
-- params: hold interval
-- row: hold_until timestamptz, is_later boolean
select n.now + $1 as hold_until, n.now + $1 > n.now as is_later
from (select clock_timestamp() as now) n
