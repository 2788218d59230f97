-- What the log says of the refreshes of the segments $2, in each of the parts of time that begin at $1. before is
-- the number of members before the first successful one.
-- runs as: set owner
-- params: buckets timestamptz[], segments uuid[]
-- row: segment_id uuid, bucket integer, members bigint, before bigint, came bigint, departed bigint, ok bigint, waiting bigint, refused bigint, failed bigint, ends_waiting boolean
select
    l.segment_id,
    width_bucket(l.processed, $1) - 1 as bucket,
    (array_agg(l.coverage order by l.id desc) filter (where l.status = 'ok' and l.coverage is not null))[1] as members,
    (array_agg(l.coverage - coalesce(l.added, 0) + coalesce(l.removed, 0) order by l.id)
        filter (where l.status = 'ok' and l.coverage is not null))[1] as before,
    coalesce(sum(l.added) filter (where l.status = 'ok'), 0)::bigint as came,
    coalesce(sum(l.removed) filter (where l.status = 'ok'), 0)::bigint as departed,
    count(*) filter (where l.status = 'ok') as ok,
    count(*) filter (where l.status = 'waiting') as waiting,
    count(*) filter (where l.status = 'refused') as refused,
    count(*) filter (where l.status in ('failed', 'interrupted')) as failed,
    (array_agg(l.status order by l.id desc))[1] = 'waiting' as ends_waiting
from @log@ l
where l.processed >= ($1)[1] and l.action in ('refresh', 'exclude') and l.segment_id = any ($2)
  and l.status in ('ok', 'waiting', 'refused', 'failed', 'interrupted')
group by l.segment_id, 2
order by l.segment_id, 2
