-- The active segments (only those whose owner $1 is a member of, and only those of $2, if these are
-- given), with the last attempt, and what they read as far as it is known. Waiting for sources is not
-- an attempt.
-- runs as: set owner
-- params: reader oid, segments uuid[]
-- row: id uuid, name text, table_oid oid, owner oid, refresh_auto boolean, refresh_cron text, refresh_timezone text, full_cron text, actual_begin timestamptz, began timestamptz, ended timestamptz, failures integer, waiting_since timestamptz, reads oid[]
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
    coalesce(a.started_at, t.started_at) as began,
    coalesce(a.ended_at, t.ended_at) as ended,
    coalesce(a.failures, 0) as failures,
    case when a.running_since is null then a.waiting_since end as waiting_since,
    -- The name may belong to another relation by now, or to none.
    (select array_agg(r.oid::oid) from unnest(k.reads) n (name), to_regclass(n.name) r (oid) where r.oid is not null) as reads
from @segments@ s
left join @state@ t on t.segment_id = s.id
left join @attempts@ k on k.segment_id = s.id
left join @attempts@ a on a.segment_id = s.id and a.refreshes = coalesce(t.refreshes, 0)
where s.actual_end = 'infinity' and ($1::oid is null or pg_has_role($1, s.owner, @membership@))
  and ($2::uuid[] is null or s.id = any ($2))
order by s.name
