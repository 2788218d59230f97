-- The active segments that watch tables, with the transaction up to which each has read the
-- captured changes. A segment that has not read since $1, or whose position is from another cluster
-- than $2, is left out: its next refresh makes a full pass.
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
