-- The active segments that leave out members of others, each with the active segment whose members it
-- leaves out, the columns that members are compared by, and how it comes to that: it names the segment,
-- the segment is a suppression list, or comes before it in a priority group. A suppression list leaves
-- out another one only where it names it.
-- part of: config/exclusion/list_lists
select s.id as segment_id, l.id as list_id, e.by, 'named' as kind
from @segments@ s
cross join lateral (
    select
        coalesce(n.entry ->> 'segment', n.entry #>> '{}') as name,
        coalesce((
            select array_agg(b.name)
            from jsonb_array_elements_text(case jsonb_typeof(n.entry -> 'by') when 'array' then n.entry -> 'by' end) b (name)
        ), '{id}') as by
    from jsonb_array_elements(case jsonb_typeof(s.exclude) when 'array' then s.exclude else '[]' end) n (entry)
) e
join @segments@ l on l.name = e.name and l.actual_end = 'infinity' and l.id <> s.id
where s.exclude <> '[]' and s.actual_end = 'infinity'
union all
select s.id, l.id, '{id}', 'suppression'
from @segments@ l
join @segments@ s on s.id <> l.id and s.actual_end = 'infinity' and not s.is_suppression and not s.exempt ? l.name
where l.is_suppression and l.actual_end = 'infinity'
union all
select s.id, l.id, '{id}', 'priority'
from @segments@ s
join @segments@ l on l.priority_group = s.priority_group and l.priority < s.priority and l.actual_end = 'infinity'
where s.priority_group is not null and s.actual_end = 'infinity'
