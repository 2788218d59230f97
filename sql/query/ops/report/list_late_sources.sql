-- The sources of the segments $2 that were late since the time $1: how many segments they concern, how often one
-- had to wait and how long at most, how often one went on with a warning, the last time, and whether one waits
-- now. A source is known by its name in the messages of the log.
-- runs as: set owner
-- params: since timestamptz, segments uuid[]
-- row: name text, segments bigint, waits bigint, longest bigint, warnings bigint, last text, is_waited_for boolean
with entries as (
    select
        l.segment_id,
        l.status,
        l.processed,
        l.message,
        lead(l.processed) over (partition by l.segment_id order by l.id) as until
    from @log@ l
    where l.processed >= $1 and l.action = 'refresh' and l.segment_id = any ($2)
      and l.status in ('ok', 'waiting', 'refused', 'failed', 'interrupted')
)
select
    n.name,
    count(distinct e.segment_id) as segments,
    count(*) filter (where e.status = 'waiting') as waits,
    coalesce(max(extract(epoch from coalesce(e.until, now()) - e.processed)) filter (where e.status = 'waiting'), 0)::bigint
        as longest,
    count(*) filter (where e.status = 'ok') as warnings,
    to_char(max(e.processed), 'YYYY-MM-DD HH24:MI') as last,
    bool_or(e.status = 'waiting' and e.until is null) as is_waited_for
from entries e
join @segments@ s on s.id = e.segment_id
cross join lateral (
    select distinct coalesce(j.source ->> 'table', j.source ->> 'name') as name
    from jsonb_array_elements(case jsonb_typeof(s.sources) when 'array' then s.sources else '[]' end) j (source)
) n
where e.status in ('ok', 'waiting') and strpos(e.message, format('source "%s" ', n.name)) > 0
  and strpos(e.message, format('source "%s" lies in the future', n.name)) = 0
group by n.name
order by is_waited_for desc, longest desc, warnings desc, n.name
