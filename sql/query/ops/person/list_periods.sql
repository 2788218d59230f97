-- The periods of the person $2 in the segment $1, in order: local times, and the same as times with a zone,
-- that which the statement runs in.
-- runs as: caller
-- params: segment uuid, id text
-- row: began timestamp, ended timestamp, processed timestamp, began_at timestamptz, ended_at timestamptz, processed_at timestamptz
-- @table@: the segment table, e.g. public.vip
select
    (t.actual_begin)::pg_catalog."timestamp" as began,
    (t.actual_end)::pg_catalog."timestamp" as ended,
    (t.processed)::pg_catalog."timestamp" as processed,
    (t.actual_begin)::pg_catalog.timestamptz as began_at,
    (t.actual_end)::pg_catalog.timestamptz as ended_at,
    (t.processed)::pg_catalog.timestamptz as processed_at
from only @table@ as t
where t.segment_id operator(pg_catalog.=) $1 and t.id operator(pg_catalog.=) $2::pg_catalog."varchar"
order by t.actual_begin, t.actual_end
