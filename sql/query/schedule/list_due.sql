-- The active segments whose owner $1 is a member of (only those of $2, if it is given), with the
-- last attempt and, if that has failed, the statuses of the attempts up to it, the newest first.
-- Waiting for sources and being skipped are not attempts. For most segments one log entry is
-- enough.
-- runs as: set owner
-- params: reader oid, segments uuid[]
-- row: id uuid, name text, table_oid oid, owner oid, refresh_auto boolean, refresh_cron text, refresh_timezone text, full_cron text, actual_begin timestamptz, began timestamptz, ended timestamptz, statuses text[], waiting_since timestamptz
select
    s.id,
    s.name,
    s.table_name::oid as table_oid,
    s.owner::oid as owner,
    s.refresh_auto,
    s.refresh_cron,
    s.refresh_timezone,
    s.refresh_params #>> '{incremental,full_cron}' as full_cron,
    s.actual_begin,
    last.processed as began,
    last.processed + coalesce(last.elapsed, '0') as ended,
    case when last.status in ('failed', 'interrupted') then (
        select array_agg(a.status order by a.id desc)
        from (
            select l.id, l.status
            from @log@ l
            where l.segment_id = s.id and l.action = 'refresh' and l.id <= last.id
              and l.status in ('ok', 'refused', 'failed', 'interrupted')
              and (l.params @> '{"attempted": false}') is not true
            order by l.id desc
            limit 13 -- a delay of a second is over an hour after 12 doublings
        ) a
    ) end as statuses,
    case when latest.status = 'waiting' then latest.processed end as waiting_since
from @segments@ s
left join lateral (
    select l.id, l.processed, l.elapsed, l.status
    from @log@ l
    where l.segment_id = s.id and l.action = 'refresh' and (l.params @> '{"attempted": false}') is not true
    order by l.id desc
    limit 1
) latest on true
left join lateral (
    (
        select latest.id, latest.processed, latest.elapsed, latest.status
        where latest.status in ('ok', 'refused', 'failed', 'interrupted')
    )
    union all
    (
        select l.id, l.processed, l.elapsed, l.status
        from @log@ l
        where latest.status not in ('ok', 'refused', 'failed', 'interrupted')
          and l.segment_id = s.id and l.action = 'refresh'
          and l.status in ('ok', 'refused', 'failed', 'interrupted')
          and (l.params @> '{"attempted": false}') is not true
        order by l.id desc
        limit 1
    )
) last on true
where s.actual_end = 'infinity' and pg_has_role($1, s.owner, @membership@)
  and ($2::uuid[] is null or s.id = any ($2))
order by s.name
