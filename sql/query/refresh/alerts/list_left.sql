-- What rules of alerts know of segments that they do not cover any more, or not since they were ended. Of the
-- definition of a segment that was retired, only what has changed since: its version, the columns and the roles.
-- runs as: set owner
-- row: alert_id uuid, consumer_id uuid, consumer text, is_pushed boolean, segment_id uuid, segment text, subject text, reported text, seen bigint, version integer, changed text[], changed_by text[]
select
    x.alert_id,
    c.id as consumer_id,
    c.name as consumer,
    jsonb_typeof(c.params -> 'updater') = 'object' as is_pushed,
    x.segment_id,
    x.segment,
    x.subject,
    x.reported,
    x.seen,
    d.version,
    n.changed,
    n.changed_by
from @alert_states@ x
join @alerts@ r on r.id = x.alert_id
join @consumers@ c on c.id = r.consumer_id and c.actual_end = 'infinity'
left join @segments@ s on s.id = x.segment_id and r.actual_end = 'infinity' and r.owner::oid <> 0
    and pg_has_role(r.owner, s.owner, @membership@)
    and (jsonb_typeof(r.rule -> 'segments') is distinct from 'array' or r.rule -> 'segments' ? s.name)
left join lateral (
    select v.version
    from @definitions@ v
    where v.segment_id = s.id and s.actual_end <> 'infinity' and x.subject = 'definition' and r.rule ->> 'on' ~ 'definition'
    order by v.version desc
    limit 1
) d on true
left join lateral (
    select
        array_agg(distinct k.name) filter (where k.name is not null) as changed,
        array_agg(distinct b.name) filter (where b.name is not null) as changed_by
    from @definitions@ v
    left join lateral jsonb_object_keys(v.changed) k (name) on true
    cross join lateral (select coalesce(v.changed_as, v.changed_by)) b (name)
    where v.segment_id = s.id and v.version > x.seen and d.version is not null
) n on true
where s.id is null or s.actual_end <> 'infinity' and (d.version > x.seen) is not false
order by x.alert_id, x.segment, x.subject
