-- The last attempt to refresh the segment $1; null: it was never refreshed.
-- runs as: set owner
-- params: segment uuid
-- row: status text, since timestamptz, detail text
select
    case
        when a.running_since is not null then 'running'
        when a.status is not null then a.status
        when t.refreshes > 0 then 'ok'
        else 'never'
    end as status,
    coalesce(a.running_since, a.waiting_since, a.ended_at, t.ended_at) as since,
    case
        when a.running_since is not null then null
        when a.status is not null then a.message
        when t.refreshes > 0 then 'run ' || t.run_id
    end as detail
from (values ($1)) s (id)
left join @state@ t on t.segment_id = s.id
left join @attempts@ a on a.segment_id = s.id and a.refreshes = coalesce(t.refreshes, 0)
