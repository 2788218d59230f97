-- Records that a request is made with the user mapping $1 and the time limit $3, and forgets those that are
-- older than $2 seconds. Returns when it has ended at the latest.
-- runs as: extension owner
-- params: mapping oid, seconds double precision, time_limit interval
-- row: requested_at timestamptz
with forgotten as (
    delete from @requests@ r
    where r.mapping = $1
      and (
          r.requested_at < clock_timestamp() - make_interval(secs => $2)
          or r.requested_at > clock_timestamp() + coalesce(r.time_limit, interval '0') + interval '10 seconds'
      )
)
insert into @requests@ (mapping, requested_at, time_limit) values ($1, clock_timestamp() + $3, $3)
returning requested_at
