-- The version $2 of the definition of the segment $1, and the last one: the columns that have other values now,
-- and those of them that an erasure has redacted. No definition: there is no such version, or it is the deletion
-- of the row. Until when the segment is held stays as it is.
-- runs as: set owner
-- params: segment uuid, version integer
-- row: definition jsonb, columns text[], erased text[], last integer
select d.definition, c.columns, c.erased, (select max(l.version) from @definitions@ l where l.segment_id = s.id) as last
from @segments@ s
left join @definitions@ d on d.segment_id = s.id and d.version = $2
left join lateral (
    select
        array_agg(a.attname::text order by a.attnum) as columns,
        array_agg(a.attname::text order by a.attnum) filter (where v.value = '"(erased)"') as erased
    from jsonb_each(d.definition) v
    join pg_attribute a on a.attname = v.key
    where a.attrelid = '@text:segments@'::regclass and a.attnum > 0 and not a.attisdropped and v.key not in ('id', 'hold_until')
      and v.value is distinct from to_jsonb(s) -> v.key
) c on true
where s.id = $1
