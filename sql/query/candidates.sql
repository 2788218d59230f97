-- Every actual, automatic segment of a role that $1 is a member of, and its last attempt. To wait
-- for sources, or to be passed over, is none.
select
    s.id,
    s.name,
    s.table_name::oid as table_oid,
    s.owner::oid as owner,
    s.refresh_params,
    s.sources,
    s.refresh_cron,
    s.refresh_timezone,
    s.actual_begin,
    '@mart@'::regclass::oid as mart,
    (
        select l.processed
        from @log@ l
        where l.segment_id = s.id and l.action = 'refresh' and l.status not in ('waiting', 'skipped')
          and not l.params @> '{"attempted": false}'
        order by l.id desc
        limit 1
    ) as last_attempt
from @segments@ s
where s.actual_end = 'infinity' and s.refresh_auto and pg_has_role($1, s.owner, 'member')
order by s.name
