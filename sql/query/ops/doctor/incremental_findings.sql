-- Active incremental segments whose owner $1 is a member of, and whose last refresh reported missed
-- changes, a watermark that does not advance, or watched tables that are not captured.
-- runs as: set owner
-- params: reader oid
-- row: findings text[]
select array_agg(array[s.name, i.missed, i.kept, i.incomplete, i.full_at] order by s.name)
from @segments@ s
cross join lateral (
    select
        nullif(l.params #>> '{incremental,missed}', '0') as missed,
        l.params #>> '{incremental,kept}' as kept,
        l.params #>> '{incremental,incomplete}' as incomplete,
        l.params #>> '{incremental,full_at}' as full_at
    from @log@ l
    where l.segment_id = s.id and l.action = 'refresh' and l.status = 'ok'
      and (l.params @> '{"attempted": false}') is not true
    order by l.id desc
    limit 1
) i
where s.actual_end = 'infinity' and s.refresh_params ? 'incremental' and pg_has_role($1, s.owner, @membership@)
  and coalesce(i.missed, i.kept, i.incomplete) is not null
