-- Records how far the segment $2 of the set $1 has read captured changes, by its checkpoint $3.
-- runs as: extension owner
-- params: mart oid, segment uuid, checkpoint text
insert into @change_readers@ as r (mart, segment_id, read_at, cluster, sources, through)
select
    $1,
    $2,
    -- The checkpoint of a migrated set is what its owner has written: it keeps no change longer.
    least((c.checkpoint #>> '{captured,at}')::timestamptz, now()),
    c.checkpoint ->> 'cluster',
    array(select e::oid from jsonb_array_elements_text(c.checkpoint #> '{captured,sources}') e),
    pg_snapshot_xmin((c.checkpoint #>> '{captured,snapshot}')::pg_snapshot)
from (values ($3::text::jsonb)) c (checkpoint)
on conflict (mart, segment_id) do update set
    read_at = excluded.read_at,
    cluster = excluded.cluster,
    sources = excluded.sources,
    through = excluded.through
