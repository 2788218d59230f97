-- What is to be said of segments whose members others leave out, of those whose owner $1 is a member of (all
-- if it sees their figures, $2). list: one that others leave out the members of, with the status of its last
-- attempt if that was no success, and the names of the first five that $1 may know, with the number of all;
-- unused: a suppression list that no segment goes by; alone: the only segment of a priority group; exempt: a
-- segment that is exempt from one that is no suppression list.
-- runs as: set owner
-- params: reader oid, sees_figures boolean
-- row: what text, name text, detail text, followers text
-- @edges@: config/exclusion/list_edges, e.g. select null::uuid as segment_id, null::uuid as list_id, '{id}'::text[] as by, 'named' as kind
with edges as materialized (
    select distinct x.segment_id, x.list_id
    from (
@edges@
    ) x
), visible as materialized (
    select s.*
    from @segments@ s
    where s.actual_end = 'infinity' and ($2 or pg_has_role($1, s.owner, @membership@))
), followed as (
    select e.list_id, count(*) as number, (array_agg('"' || v.name || '"' order by v.name) filter (where v.id is not null))[:5] as names
    from edges e
    left join visible v on v.id = e.segment_id
    group by e.list_id
)
select
    'list' as what,
    v.name::text,
    case when coalesce(t.refreshes, 0) = 0 and v.refresh_params <> '{}' and a.status is null then 'new' else a.status end as detail,
    case f.number when 1 then '1 segment' else f.number || ' segments' end
        || coalesce(': ' || array_to_string(f.names, ', ') || case when f.number > cardinality(f.names) then ', ...' else '' end, '') as followers
from followed f
join visible v on v.id = f.list_id
left join @state@ t on t.segment_id = v.id
left join @attempts@ a on a.segment_id = v.id and a.refreshes = coalesce(t.refreshes, 0)
union all
select 'unused', v.name, null, null
from visible v
where v.is_suppression and not exists (select from edges e where e.list_id = v.id)
union all
select 'alone', v.name, v.priority_group, null
from visible v
where v.priority_group is not null
  and not exists (
    select from @segments@ s
    where s.priority_group = v.priority_group and s.id <> v.id and s.actual_end = 'infinity'
  )
union all
select 'exempt', v.name, k.name, null
from visible v
cross join lateral jsonb_object_keys(case jsonb_typeof(v.exempt) when 'object' then v.exempt else '{}' end) k (name)
where not exists (
    select from @segments@ s where s.name = k.name and s.is_suppression and s.actual_end = 'infinity'
)
order by what desc, name, detail
