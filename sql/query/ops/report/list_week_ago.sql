-- The members that each of the segments $1 had before its first successful refresh of the last seven days. One that
-- has not been refreshed since then had as many as now, and is left out.
-- runs as: set owner
-- params: segments uuid[]
-- row: segment_id uuid, members bigint
select
    l.segment_id,
    (array_agg(l.coverage - coalesce(l.added, 0) + coalesce(l.removed, 0) order by l.id))[1] as members
from @log@ l
where l.processed > now() - interval '7 days' and l.action in ('refresh', 'exclude') and l.segment_id = any ($1)
  and l.status = 'ok' and l.coverage is not null
group by l.segment_id
