-- Deletes versions older than $1, at most $3 of them: those of segments that no longer exist and whose last version
-- is older, too, and those that have $2 later ones. Returns their number.
-- runs as: set owner
-- params: before timestamptz, kept bigint, limit bigint
-- row: deleted bigint
with deleted as (
    delete from @definitions@ d
    using (
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
    ) e
    where d.segment_id = e.segment_id and d.version = e.version
    returning d.version
)
select count(*) as deleted from deleted
