-- The members of the segment $1 whose ids are in the relation segmenter_excluded, as a delta that removes
-- them.
-- runs as: segment owner
-- params: segment uuid
-- row: operation "char", id text, …, place tid
-- @values@: new values, which are null, and old ones, each after a comma, e.g. , null::pg_catalog.text as n1, m.o1
-- @member@: the query of refresh/delta/member_by_id, e.g. select 'h'::text as o1, '1'::text as id, '(0,1)'::pg_catalog.tid as place
select 'r'::pg_catalog."char" as operation, m.id@values@, m.place
from (select distinct e.id from segmenter_excluded as e) as c
cross join lateral (
@member@
) as m
