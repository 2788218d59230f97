-- Records the row of the segment $1 as the next version of its definition, if it differs from the last one: the
-- row was changed by the role $3, with the rights of $4. $2 is the row before (null: there was none). Where no
-- version of it is known, it becomes the first one. What an erasure has redacted stays so until the
-- row is changed there.
-- runs as: set owner
-- params: segment uuid, before record, changed_by text, changed_as text
with known as materialized (
    select d.version, d.definition
    from @definitions@ d
    where d.segment_id = $1
    order by d.version desc
    limit 1
), former as (
    select f.version, f.definition
    from known f
    union all
    select 1, to_jsonb($2)
    where to_jsonb($2) is not null and not exists (select from known)
), version as (
    select
        coalesce(f.version, 0) + 1 as version,
        to_jsonb(s) || coalesce((
            select jsonb_object_agg(c.key, c.value)
            from jsonb_each(f.definition) c
            where c.value = '"(erased)"' and to_jsonb($2) -> c.key = to_jsonb(s) -> c.key
        ), '{}') as definition,
        (
            select jsonb_object_agg(
                c.name, jsonb_build_object('old', f.definition -> c.name, 'new', to_jsonb(s) -> c.name)
            )
            from jsonb_object_keys(coalesce(f.definition, '{}') || coalesce(to_jsonb(s), '{}')) c (name)
            where f.definition -> c.name is distinct from to_jsonb(s) -> c.name
              and not (
                  coalesce(f.definition -> c.name = '"(erased)"', false)
                  and coalesce(to_jsonb($2) -> c.name = to_jsonb(s) -> c.name, false)
              )
        ) as changed
    from (values ($1)) k (id)
    left join @segments@ s on s.id = k.id
    left join former f on true
)
insert into @definitions@ (segment_id, version, changed_by, changed_as, changed, definition)
select $1, f.version, null, null, (
    select jsonb_object_agg(c.key, jsonb_build_object('old', null, 'new', c.value)) from jsonb_each(f.definition) c
), f.definition
from former f
where not exists (select from known)
union all
select $1, v.version, $3, $4, v.changed, v.definition
from version v
where v.changed is not null
