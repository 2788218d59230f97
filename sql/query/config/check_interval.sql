-- What is wrong with an interval, given as text, as a limit of time; null: nothing. Text that is not an
-- interval is an error.
-- runs as: caller
-- params: interval text
-- row: problem text
select case
    when not pg_catalog.isfinite(i.value) then 'not finite'
    when i.value operator(pg_catalog.<=) '0'::pg_catalog.interval then 'not longer than zero'
    when i.value operator(pg_catalog.>) '1000 years'::pg_catalog.interval then 'longer than 1000 years'
end
from (select $1::pg_catalog.interval as value) as i
