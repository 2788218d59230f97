-- The active segments, other than $1, that are in the tables $3, have the names $4, or are the lists $6: how their last
-- refresh ended, when they are refreshed, and whether the last success is older than the limit of age
-- with that name, one of $5. A segment of a family is refreshed when its family is, and as good as that. The name is null where the role $2, the owner of $1, may neither act as
-- the segment's owner nor read its table.
-- runs as: set owner
-- params: segment uuid, owner oid, tables oid[], names text[], max_ages text[], lists uuid[]
-- row: id uuid, name text, table_oid oid, has_refresher boolean, refresh_auto boolean, refresh_cron text, refresh_timezone text, full_cron text, refreshed timestamptz, status text, is_read boolean, is_named boolean, max_age text, age text, is_old boolean, hold_until timestamptz
select
    s.id,
    case
        when pg_has_role($2, s.owner, @membership@) or has_any_column_privilege($2, s.table_name, 'select')
            then s.name
    end as name,
    s.table_name::oid as table_oid,
    s.refresh_params <> '{}' as has_refresher,
    s.refresh_auto or coalesce(f.refresh_auto, false) as refresh_auto,
    coalesce(s.refresh_cron, f.refresh_cron) as refresh_cron,
    case when s.refresh_cron is null and f.id is not null then f.refresh_timezone else s.refresh_timezone end as refresh_timezone,
    coalesce(f.refresh_params, s.refresh_params) #>> '{incremental,full_cron}' as full_cron,
    case when t.refreshes > 0 then t.started_at end as refreshed,
    coalesce(a.status, b.status) as status,
    s.table_name::oid = any ($3) or s.id = any ($6) as is_read,
    n.name is not null as is_named,
    n.max_age,
    date_trunc('second', clock_timestamp() - t.started_at)::text as age,
    clock_timestamp() - n.max_age::interval > t.started_at as is_old,
    s.hold_until
from @segments@ s
left join @state@ t on t.segment_id = s.id
left join @attempts@ a on a.segment_id = s.id and a.refreshes = coalesce(t.refreshes, 0)
left join @segments@ f on f.name = s.refresh_params ->> 'family' and f.owner = s.owner and f.actual_end = 'infinity'
left join @state@ g on g.segment_id = f.id
left join @attempts@ b on b.segment_id = f.id and b.refreshes = coalesce(g.refreshes, 0)
left join (
    select l.name, min(l.max_age::interval)::text as max_age
    from unnest($4, $5) l (name, max_age)
    group by l.name
) n on n.name = s.name
where s.actual_end = 'infinity' and s.id <> $1 and (s.table_name::oid = any ($3) or s.name = any ($4) or s.id = any ($6))
order by s.name
