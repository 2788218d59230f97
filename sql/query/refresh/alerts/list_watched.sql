-- The active segments (only $1, if it is given) that active rules of alerts cover, a row for each rule: what is
-- known of the segment, and what was known when it was last looked at, with what has changed its definition since. A rule covers segments whose owner its
-- own owner is a member of.
-- runs as: set owner
-- params: segment uuid
-- row: alert_id uuid, consumer_id uuid, consumer text, is_pushed boolean, rule jsonb, segment_id uuid, segment text, status text, message text, failures integer, waiting_since timestamptz, refreshes bigint, coverage bigint, added bigint, removed bigint, guards jsonb, version integer, changed text[], changed_by text[], states jsonb
select
    r.id as alert_id,
    c.id as consumer_id,
    c.name as consumer,
    jsonb_typeof(c.params -> 'updater') = 'object' as is_pushed,
    r.rule,
    s.id as segment_id,
    s.name as segment,
    coalesce(a.status, case when t.refreshes > 0 then 'ok' end) as status,
    a.message,
    coalesce(a.failures, 0) as failures,
    a.waiting_since,
    coalesce(t.refreshes, 0) as refreshes,
    t.coverage,
    t.added,
    t.removed,
    s.guards,
    d.version,
    n.changed,
    n.changed_by,
    k.states
from @alerts@ r
join @consumers@ c on c.id = r.consumer_id and c.actual_end = 'infinity'
join @segments@ s on pg_has_role(r.owner, s.owner, @membership@)
    and (jsonb_typeof(r.rule -> 'segments') is distinct from 'array' or r.rule -> 'segments' ? s.name)
left join @state@ t on t.segment_id = s.id
left join @attempts@ a on a.segment_id = s.id and a.refreshes = coalesce(t.refreshes, 0)
left join lateral (
    select jsonb_object_agg(
        x.subject,
        jsonb_build_object('state', x.state, 'reported', x.reported, 'since', x.since, 'changes', to_jsonb(x.changes), 'seen', x.seen)
    ) as states
    from @alert_states@ x
    where x.alert_id = r.id and x.segment_id = s.id
) k on true
left join lateral (
    select v.version from @definitions@ v where v.segment_id = s.id order by v.version desc limit 1
) d on true
left join lateral (
    select
        array_agg(distinct c.name) filter (where c.name is not null) as changed,
        array_agg(distinct b.name) filter (where b.name is not null) as changed_by
    from @definitions@ v
    left join lateral jsonb_object_keys(v.changed) c (name) on true
    cross join lateral (select coalesce(v.changed_as, v.changed_by)) b (name)
    where v.segment_id = s.id and v.version > (k.states #>> '{definition,seen}')::bigint
) n on true
where r.actual_end = 'infinity' and r.owner::oid <> 0 and s.actual_end = 'infinity' and ($1::uuid is null or s.id = $1)
order by r.actual_begin, r.id, s.name
