-- The ids that have changed for segments of a family, each with the name of the segment: of the relation of changed ids those
-- that are members of the segments $1, whose names are $2, and those that rows of the family have.
-- runs as: segment owner
-- params: segments uuid[], names text[]
-- row: name text, id text
-- @table@: the segment table, e.g. public.vip
-- @ids@: the relation of changed ids, e.g. segmenter_ids
-- @has_id@: that a member (t) has a changed id (c): looked up by the index, or found by reading the table, e.g. t.id operator(pg_catalog.=) (c.id)::pg_catalog.text::pg_catalog."varchar"
select m.name, (t.id)::pg_catalog.text collate pg_catalog."C" as id
from @ids@ as c
join only @table@ as t on @has_id@
join rows from (pg_catalog.unnest($1), pg_catalog.unnest($2)) m (segment_id, name)
    on m.segment_id operator(pg_catalog.=) t.segment_id
where t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp
union
select (r.segment)::pg_catalog.text, (r.id)::pg_catalog.text collate pg_catalog."C"
from segmenter_family_rows r
join @ids@ as c on (c.id)::pg_catalog.text collate pg_catalog."C" operator(pg_catalog.=) (r.id)::pg_catalog.text
