-- The active segments that watch tables, with the transaction up to which each has read the
-- captured changes. A segment that has not read since $1, or whose position is from another cluster
-- than $2, is left out: its next refresh makes a full pass.
-- runs as: set owner
-- params: since timestamptz, cluster text
-- row: readers jsonb
select jsonb_agg(jsonb_build_object(
    'sources', t.checkpoint #> '{captured,sources}',
    'through', pg_snapshot_xmin((t.checkpoint #>> '{captured,snapshot}')::pg_snapshot)::text::numeric
))
from @segments@ s
join @state@ t on t.segment_id = s.id
where s.actual_end = 'infinity' and s.refresh_params #> '{incremental,watch}' is not null
  and (t.checkpoint #>> '{captured,at}')::timestamptz > $1 and t.checkpoint ->> 'cluster' = $2
