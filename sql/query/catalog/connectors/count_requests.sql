-- How long a request with the user mapping $1 has to wait, in seconds: for each window $2, in seconds,
-- until fewer than $3 requests were made in it. One that has not ended may be made at any time yet.
-- runs as: extension owner
-- params: mapping oid, windows double precision[], most integer[]
-- row: seconds double precision
select max(extract(epoch from least(r.requested_at - clock_timestamp(), interval '0'))::double precision + w.seconds)
from unnest($2, $3) w (seconds, most)
cross join lateral (
    -- Times that were set while the clock was ahead count for nothing.
    select q.requested_at
    from @requests@ q
    where q.mapping = $1
      and q.requested_at <= clock_timestamp() + coalesce(q.time_limit, interval '0') + interval '10 seconds'
    order by q.requested_at desc
    offset w.most - 1
    limit 1
) r
