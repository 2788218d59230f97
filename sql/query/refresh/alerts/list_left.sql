-- What active rules of alerts know of segments that they do not cover any more.
-- runs as: set owner
-- row: alert_id uuid, consumer_id uuid, consumer text, is_pushed boolean, segment_id uuid, segment text, subject text, reported text
select
    x.alert_id,
    c.id as consumer_id,
    c.name as consumer,
    jsonb_typeof(c.params -> 'updater') = 'object' as is_pushed,
    x.segment_id,
    x.segment,
    x.subject,
    x.reported
from @alert_states@ x
join @alerts@ r on r.id = x.alert_id and r.actual_end = 'infinity'
join @consumers@ c on c.id = r.consumer_id and c.actual_end = 'infinity'
where not exists (
    select from @segments@ s
    where s.id = x.segment_id and s.actual_end = 'infinity' and pg_has_role(r.owner, s.owner, @membership@)
      and r.owner::oid <> 0 and (jsonb_typeof(r.rule -> 'segments') is distinct from 'array' or r.rule -> 'segments' ? s.name)
)
order by x.alert_id, x.segment, x.subject
