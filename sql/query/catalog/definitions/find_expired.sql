-- The versions older than $1, at most $3 of them: those of segments that no longer exist and whose last version
-- is older, too, and those that have $2 later ones. Segments and versions are in the same order.
-- runs as: set owner
-- params: before timestamptz, kept bigint, limit bigint
-- row: segments uuid[], versions integer[]
select array_agg(f.segment_id) as segments, array_agg(f.version) as versions
from (
    select o.segment_id, o.version
    from (
        select l.segment_id, max(l.version) as last, max(l.changed_at) as changed_at
        from @definitions@ l
        group by l.segment_id
    ) l
    join @definitions@ o on o.segment_id = l.segment_id
    where o.changed_at < $1
      and (
          o.version <= l.last - $2
          or l.changed_at < $1 and not exists (select from @segments@ s where s.id = l.segment_id)
      )
    limit $3
) f
