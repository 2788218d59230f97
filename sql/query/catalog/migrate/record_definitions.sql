-- Records the definition of each segment as its first version: who has made it so is not known.
-- runs as: set owner
insert into @definitions@ (segment_id, version, changed, definition)
select
    s.id,
    1,
    (
        select jsonb_object_agg(c.key, jsonb_build_object('old', null, 'new', c.value))
        from jsonb_each(d.definition) c
    ),
    d.definition
from @segments@ s
cross join lateral (select to_jsonb(s) as definition) d
