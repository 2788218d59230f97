-- What each active segment reads, of those whose owner $1 is a member of, as it was recorded last: the
-- relation or function, and the view or function that names it. A table of segments is shown as these,
-- or as the one that is read under its name, where the role may see them. Then the segments whose members it
-- leaves out, with the config column that says so.
-- runs as: set owner
-- params: reader oid
-- row: segment text, reads text, kind text, via text
-- @edges@: config/exclusion/list_edges, e.g. select null::uuid as segment_id, null::uuid as list_id, '{id}'::text[] as by, 'named' as kind
select
    s.name as segment,
    coalesce(u.name, l.reads) as reads,
    case when u.name is not null then 'segment' else l.kind end as kind,
    l.via
from @segments@ s
join @attempts@ k on k.segment_id = s.id
cross join lateral jsonb_to_recordset(k.lineage) l (reads text, kind text, via text, segment text)
left join lateral (
    select r.name
    from @segments@ r
    where r.table_name = case when l.kind = 'table' then to_regclass(l.reads) end and pg_has_role($1, r.owner, @membership@)
      and (l.segment is null or r.name = l.segment)
      and (
          r.actual_end = 'infinity'
          or not exists (select from @segments@ a where a.table_name = r.table_name and a.actual_end = 'infinity')
      )
) u on true
where s.actual_end = 'infinity' and pg_has_role($1, s.owner, @membership@)
union all
select
    s.name,
    l.name,
    'segment',
    case x.kind when 'named' then 'exclude' when 'suppression' then 'is_suppression' else 'priority_group' end
from (
@edges@
) x
join @segments@ s on s.id = x.segment_id
join @segments@ l on l.id = x.list_id
where pg_has_role($1, s.owner, @membership@)
order by segment, reads, kind, via nulls first
