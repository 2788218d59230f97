-- Records that a request is made with the user mapping $1, and forgets those that are older than $2
-- seconds.
-- runs as: extension owner
-- params: mapping oid, seconds double precision
with forgotten as (
    delete from @requests@ r
    where r.mapping = $1
      and (
          r.requested_at < clock_timestamp() - make_interval(secs => $2)
          or r.requested_at > clock_timestamp() + interval '10 seconds'
      )
)
insert into @requests@ (mapping, requested_at) values ($1, clock_timestamp())
