-- The active segments (only those whose owner $1 is a member of; only those of $2, those that belong to
-- them as a family, and their families, if these are given), with the last attempt, and what they read as
-- far as it is known. Waiting for sources is not an attempt. lists: the segments whose members they leave
-- out; must_close: one of these has gained some since they followed it last; is_freed: one has lost some,
-- or is none of them any more, and no attempt has failed since; or the segment waits. is_redefined: the
-- last attempt failed, and the definition has been changed since in what a refresh depends on.
-- runs as: set owner
-- params: reader oid, segments uuid[]
-- row: id uuid, name text, table_oid oid, owner oid, refresh_auto boolean, refresh_cron text, refresh_timezone text, full_cron text, actual_begin timestamptz, began timestamptz, ended timestamptz, failures integer, waiting_since timestamptz, reads oid[], lists uuid[], must_close boolean, is_freed boolean, is_redefined boolean, hold_until timestamptz, family uuid, family_name text
-- @edges@: config/exclusion/list_edges, e.g. select null::uuid as segment_id, null::uuid as list_id, '{id}'::text[] as by, 'named' as kind
with only_these as (
    select s.id from @segments@ s where s.id = any ($2)
    union
    select s.id
    from @segments@ f
    join @segments@ s on s.refresh_params ->> 'family' = f.name and s.owner = f.owner
    where f.id = any ($2) and f.actual_end = 'infinity'
      and (f.refresh_params @> '{"query": {"family": true}}' or f.refresh_params @> '{"incremental": {"family": true}}')
    union
    select f.id
    from @segments@ s
    join @segments@ f on f.name = s.refresh_params ->> 'family' and f.owner = s.owner and f.actual_end = 'infinity'
    where s.id = any ($2)
), edges as (
    select x.segment_id, x.list_id, to_jsonb(array_agg(distinct b.name order by b.name)) as by
    from (
@edges@
    ) x
    cross join unnest(x.by) b (name)
    where $2::uuid[] is null or x.segment_id in (select o.id from only_these o)
    group by x.segment_id, x.list_id
), followed_last as materialized (
    select t.segment_id, j.key as list_id, j.value as seen
    from @state@ t
    cross join lateral jsonb_each(t.lists) j
    where $2::uuid[] is null or t.segment_id in (select o.id from only_these o)
), followed as (
    select
        e.segment_id,
        array_agg(e.list_id) as lists,
        bool_or(
            o.refreshes > 0
            and (p.seen is null or p.seen -> 'by' <> e.by or (p.seen ->> 'gains')::bigint <> coalesce(l.gains, 0))
        ) as must_close,
        bool_or(p.seen -> 'by' <> e.by or (p.seen ->> 'losses')::bigint <> coalesce(l.losses, 0)) as has_losses,
        count(p.seen) as number,
        max(l.lost_at) as lost_at
    from edges e
    left join @state@ l on l.segment_id = e.list_id
    left join @state@ o on o.segment_id = e.segment_id
    left join followed_last p on p.segment_id = e.segment_id and p.list_id = e.list_id::text
    group by e.segment_id
)
select
    s.id,
    s.name,
    s.table_name::oid as table_oid,
    s.owner::oid as owner,
    s.refresh_auto or coalesce(m.refresh_auto, false) as refresh_auto,
    s.refresh_cron,
    s.refresh_timezone,
    s.refresh_params #>> '{incremental,full_cron}' as full_cron,
    s.actual_begin,
    coalesce(a.started_at, t.started_at) as began,
    coalesce(a.ended_at, t.ended_at) as ended,
    coalesce(a.failures, 0) as failures,
    case when a.running_since is null then a.waiting_since end as waiting_since,
    -- The name may belong to another relation by now, or to none.
    (select array_agg(r.oid::oid) from unnest(k.reads) n (name), to_regclass(n.name) r (oid) where r.oid is not null) as reads,
    f.lists,
    coalesce(f.must_close, false) as must_close,
    coalesce(
        (
            f.has_losses
            or (select count(*) from jsonb_object_keys(t.lists)) <> coalesce(f.number, 0)
            or a.status = 'waiting' and f.lists is not null
        )
        and (a.status is null or a.status = 'waiting' or f.lost_at > a.started_at),
        false
    ) as is_freed,
    a.status in ('failed', 'interrupted') and exists (
        select from @definitions@ d
        where d.segment_id = s.id and d.version > a.definition
          and d.changed - array['name', 'description', 'context', 'retention', 'hold_until'] <> '{}'
    ) as is_redefined,
    s.hold_until,
    m.id as family,
    m.name as family_name
from @segments@ s
left join @segments@ m on m.name = s.refresh_params ->> 'family' and m.owner = s.owner and m.actual_end = 'infinity'
left join @state@ t on t.segment_id = s.id
left join followed f on f.segment_id = s.id
left join @attempts@ k on k.segment_id = s.id
left join @attempts@ a on a.segment_id = s.id and a.refreshes = coalesce(t.refreshes, 0)
where s.actual_end = 'infinity' and ($1::oid is null or pg_has_role($1, s.owner, @membership@))
  and ($2::uuid[] is null or s.id in (select o.id from only_these o))
order by s.name
