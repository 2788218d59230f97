-- Every actual segment of a role that $1 is a member of (among those of $2, where that is given),
-- with the last attempts at it, the newest first. To wait for sources, or to be passed over, is none.
select
    s.id,
    s.name,
    s.table_name::oid as table_oid,
    s.owner::oid as owner,
    s.refresh_auto,
    s.refresh_params,
    s.sources,
    s.refresh_cron,
    s.refresh_timezone,
    s.actual_begin,
    attempts.began,
    attempts.ended,
    attempts.statuses,
    latest.waiting_since
from @segments@ s
cross join lateral (
    select
        (array_agg(a.processed order by a.id desc))[1] as began,
        (array_agg(a.processed + coalesce(a.elapsed, '0') order by a.id desc))[1] as ended,
        array_agg(a.status order by a.id desc) as statuses
    from (
        select l.id, l.processed, l.elapsed, l.status
        from @log@ l
        where l.segment_id = s.id and l.action = 'refresh'
          and l.status in ('ok', 'refused', 'failed', 'interrupted')
          and (l.params @> '{"attempted": false}') is not true
        order by l.id desc
        limit 13 -- so often a delay of a second doubles to an hour
    ) a
) attempts
left join lateral (
    select case when l.status = 'waiting' then l.processed end as waiting_since
    from @log@ l
    where l.segment_id = s.id and l.action = 'refresh' and (l.params @> '{"attempted": false}') is not true
    order by l.id desc
    limit 1
) latest on true
where s.actual_end = 'infinity' and pg_has_role($1, s.owner, 'member')
  and ($2::uuid[] is null or s.id = any ($2))
order by s.name
