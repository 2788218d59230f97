-- The names in the column exclude of the segment $1 that no active segment has.
-- runs as: set owner
-- params: segment uuid
-- row: names text[]
select array_agg(n.name order by n.name)
from @segments@ s
cross join lateral jsonb_array_elements(case jsonb_typeof(s.exclude) when 'array' then s.exclude else '[]' end) e (entry)
cross join lateral (select coalesce(e.entry ->> 'segment', e.entry #>> '{}') as name) n
where s.id = $1 and not exists (select from @segments@ l where l.name = n.name and l.actual_end = 'infinity')
