-- The ids of the relation segmenter_former that the segment $1, whose members are left out, has too, by a column.
-- runs as: table owner
-- params: list uuid
-- row: id text
-- @table@: the table of the list, e.g. public.vip
-- @column@: the column that is compared, e.g. hash_email
select f.id
from segmenter_former as f
where exists (
    select
    from only @table@ as t
    where t.segment_id operator(pg_catalog.=) $1
      and t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp
      and (t.@column@)::pg_catalog.text collate pg_catalog."C" operator(pg_catalog.=) f.@column@
)
