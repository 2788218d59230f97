-- Redacts in the history of the definition of the segment $1, or with null in that of deleted segments, the
-- columns that name a person: $2 are patterns that match the person's id and hashes, $3 the letters and digits of
-- the id (empty: they are not compared). The columns $4 cannot name a person.
-- runs as: set owner
-- params: segment uuid, patterns text[], letters text, closed text[]
with told as materialized (
    select d.version, d.segment_id, c.key, c.part, c.value
    from @definitions@ d
    cross join lateral (
        select e.key, 'definition' as part, e.value
        from jsonb_each(d.definition) e
        union all
        select e.key, p.key, p.value
        from jsonb_each(d.changed) e
        cross join lateral jsonb_each(e.value) p
    ) c
    where (
            d.segment_id = $1
            or $1 is null and not exists (select from @segments@ s where s.id = d.segment_id)
        )
      and not c.key = any ($4)
      and (
          c.value::text ~ any ($2)
          or $3 <> '' and strpos(regexp_replace(c.value::text, '[^[:alnum:]]', '', 'g'), $3) > 0
      )
), redacted as (
    select
        t.segment_id,
        t.version,
        jsonb_object_agg(t.key, '(erased)') filter (where t.part = 'definition') as definition,
        coalesce(jsonb_object_agg(t.key, true) filter (where t.part = 'old'), '{}') as old,
        coalesce(jsonb_object_agg(t.key, true) filter (where t.part = 'new'), '{}') as new
    from told t
    group by t.segment_id, t.version
)
update @definitions@ d
set definition = d.definition || coalesce(r.definition, '{}'),
    changed = (
        select jsonb_object_agg(
            c.key,
            c.value || case when r.old ? c.key then '{"old": "(erased)"}'::jsonb else '{}' end
                || case when r.new ? c.key then '{"new": "(erased)"}'::jsonb else '{}' end
        )
        from jsonb_each(d.changed) c
    )
from redacted r
where d.segment_id = r.segment_id and d.version = r.version
