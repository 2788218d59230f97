-- The runs that changed members of the segment $1 at the times $2: their reason, or, where members left because of
-- lists, these, each with the reason; where they left because they are kept out, that.
-- runs as: set owner
-- params: segment uuid, times timestamp[]
-- row: at timestamp, run_id uuid, reason text, lists text, definition integer, expired boolean
select w.at, l.run_id,
    case when w.at = e.kept_out_at then 'erased' else l.reason end as reason,
    case when w.at = e.closed_at then l.params #>> '{closed,lists}' end as lists, l.definition,
    coalesce(l.reason = 'data' and w.at = e.at and l.params #> '{incremental,expired}' is not null, false) as expired
from @log@ l
cross join lateral (
    select (l.params ->> 'at')::timestamp as at, (l.params #>> '{closed,at}')::timestamp as closed_at,
        (l.params #>> '{closed,kept_out,at}')::timestamp as kept_out_at
) e
join unnest($2) w (at) on w.at = e.at or w.at = e.closed_at or w.at = e.kept_out_at
where l.segment_id = $1 and l.status = 'ok' and l.action in ('refresh', 'exclude')
order by l.id
