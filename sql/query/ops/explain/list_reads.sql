-- The segments that the segment $1 was recorded to read, by the names of their tables, and their own names where it reads
-- them under these.
-- runs as: set owner
-- params: segment uuid
-- row: id uuid, name text
select distinct r.id, r.name
from @attempts@ k
cross join lateral jsonb_to_recordset(k.lineage) l (reads text, kind text, segment text)
join @segments@ r on r.table_name = case when l.kind = 'table' then to_regclass(l.reads) end
where k.segment_id = $1 and r.id <> $1 and r.actual_end = 'infinity' and (l.segment is null or l.segment = r.name)
order by r.name
