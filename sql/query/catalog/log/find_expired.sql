-- The log entries older than $1, at most $2 of them, the oldest first. An entry whose time lies in
-- the future is as old as those that were written after it.
-- runs as: set owner
-- params: before timestamptz, limit bigint
-- row: ids bigint[]
select array_agg(f.id) as ids
from (
    select o.id
    from @log@ o
    where o.processed < $1
        or o.processed > clock_timestamp() + interval '10 seconds'
            and o.id < (select max(p.id) from @log@ p where p.processed < $1)
    order by o.processed
    limit $2
) f
