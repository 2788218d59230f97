-- The parts of the last $1 days, as local times of the zone of the set: hours of up to three days, otherwise days,
-- or at most 100 parts of several days each. The last one goes on until now.
-- runs as: set owner
-- params: days integer
-- row: begun timestamptz, label text, short text
select
    b.begun,
    to_char(b.begun, case when $1 > 3 then 'YYYY-MM-DD' else 'YYYY-MM-DD HH24:MI' end) as label,
    to_char(b.begun, case when $1 > 3 then 'FMDD Mon' else 'FMDD Mon HH24:MI' end) as short
from (
    select
        case when $1 > 3 then make_interval(days => ($1 + 99) / 100) else interval '1 hour' end as step,
        case
            when $1 > 3 then date_trunc('day', now()) - make_interval(days => $1 - 1)
            else date_trunc('hour', now()) - make_interval(hours => 24 * $1 - 1)
        end as first
) s
cross join lateral generate_series(s.first, now(), s.step) b (begun)
order by b.begun
