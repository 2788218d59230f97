-- Who is still to read captured changes: the actual segments that watch tables, with what they have read. One
-- that has not read since $1 does without them, and $2 is the cluster that the rest is true for.
-- runs as: set owner
-- params: since timestamptz, cluster text
-- row: readers jsonb
select jsonb_agg(jsonb_build_object(
    'sources', p.position #> '{captured,sources}',
    'through', pg_snapshot_xmin((p.position #>> '{captured,snapshot}')::pg_snapshot)::text::numeric
))
from @segments@ s
cross join lateral (
    select l.params -> 'incremental' as position
    from @log@ l
    where l.segment_id = s.id and l.action = 'refresh' and l.status = 'ok'
      and (l.params @> '{"attempted": false}') is not true
    order by l.id desc
    limit 1
) p
where s.actual_end = 'infinity' and s.refresh_params #> '{incremental,watch}' is not null
  and (p.position #>> '{captured,at}')::timestamptz > $1 and p.position ->> 'cluster' = $2
