-- Active segments whose owner $1 is a member of (all if it sees their figures, $2) that read the mart $3,
-- not through the view $4, which names segments, and whose sources name no segment.
-- runs as: set owner
-- params: reader oid, sees_figures boolean, mart oid, current_view oid
-- row: name text
select s.name::text as name
from @segments@ s
join @attempts@ k on k.segment_id = s.id
where s.actual_end = 'infinity' and ($2 or pg_has_role($1, s.owner, @membership@))
  and not s.sources @? '$[*].segment'
  and exists (
      select from jsonb_to_recordset(k.lineage) l (reads text, kind text, via text)
      where case when l.kind = 'table' then to_regclass(l.reads) end::oid = $3 and l.via is distinct from (
          select format('%I.%I', n.nspname, c.relname)
          from pg_class c
          join pg_namespace n on n.oid = c.relnamespace
          where c.oid = $4
      )
  )
order by s.name
